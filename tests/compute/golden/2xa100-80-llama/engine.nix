# llama3.1-70b-instruct awq_int4, context 65536 on 1 x NVIDIA A100-SXM4-80GB (81920 MiB), tier a100_80gb: made by loosh-miner engine render
# no revision yet: run loosh-miner models pull first, then render again
{
  services.loosh-miner.engineProfile = {
    engine = "vllm";
    purpose = "earning";
    tier = "a100_80gb";
    model = "llama3.1-70b-instruct";
    servedName = "meta-llama/Llama-3.1-70B-Instruct";
    context = 65536;
    parallel = 64;
    gpus = 1;
    gpuMemory = 85899345920;
    port = 8001;
    vllmVersion = "0.33.0";
    repository = "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4";
    revision = null;
    arguments = [
      "hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"
      "--served-model-name"
      "meta-llama/Llama-3.1-70B-Instruct"
      "--host"
      "0.0.0.0"
      "--port"
      "8001"
      "--max-model-len"
      "65536"
      "--gpu-memory-utilization"
      "0.90"
      "--tensor-parallel-size"
      "1"
      "--max-num-seqs"
      "64"
      "--enable-prefix-caching"
      "--enable-auto-tool-choice"
      "--tool-call-parser"
      "llama3_json"
      "--chat-template"
      "/vllm-workspace/examples/tool_chat_template_llama3.1_json.jinja"
      "--generation-config"
      "vllm"
    ];
    environment = {
      HF_HOME = "/var/cache/vllm/huggingface";
      HF_HUB_OFFLINE = "1";
      VLLM_CACHE_ROOT = "/var/cache/vllm/vllm";
      TRITON_CACHE_DIR = "/var/cache/vllm/triton";
      TORCHINDUCTOR_CACHE_DIR = "/var/cache/vllm/inductor";
      VLLM_NO_USAGE_STATS = "1";
      DO_NOT_TRACK = "1";
    };
    devices = [
      "nvidia.com/gpu=0"
    ];
    folders = [ ];
    settings = {
      LLM_BACKEND = "vllm";
      DEFAULT_MODEL = "meta-llama/Llama-3.1-70B-Instruct";
      VLLM_API_BASE = "http://127.0.0.1:8001/v1";
    };
  };
}
