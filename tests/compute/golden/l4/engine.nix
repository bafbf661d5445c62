# qwen2.5-14b-instruct awq_int4, context 32768 on 1 x NVIDIA L4 (23034 MiB), tier a10_24gb: made by loosh-miner engine render
# no revision yet: run loosh-miner models pull first, then render again
{
  services.loosh-miner.engineProfile = {
    engine = "vllm";
    purpose = "earning";
    tier = "a10_24gb";
    model = "qwen2.5-14b-instruct";
    servedName = "Qwen/Qwen2.5-14B-Instruct";
    context = 32768;
    parallel = 64;
    gpus = 1;
    gpuMemory = 24152899584;
    port = 8001;
    vllmVersion = "0.33.0";
    repository = "Qwen/Qwen2.5-14B-Instruct-AWQ";
    revision = null;
    arguments = [
      "Qwen/Qwen2.5-14B-Instruct-AWQ"
      "--served-model-name"
      "Qwen/Qwen2.5-14B-Instruct"
      "--host"
      "0.0.0.0"
      "--port"
      "8001"
      "--max-model-len"
      "32768"
      "--gpu-memory-utilization"
      "0.90"
      "--tensor-parallel-size"
      "1"
      "--max-num-seqs"
      "64"
      "--enable-prefix-caching"
      "--enable-auto-tool-choice"
      "--tool-call-parser"
      "hermes"
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
      "nvidia.com/gpu=all"
    ];
    folders = [ ];
    settings = {
      LLM_BACKEND = "vllm";
      DEFAULT_MODEL = "Qwen/Qwen2.5-14B-Instruct";
      VLLM_API_BASE = "http://127.0.0.1:8001/v1";
    };
  };
}
