# qwen2.5-7b-instruct awq_int4, context 32768 on 4 x NVIDIA H100 80GB HBM3 (81559 MiB), tier h100_80gb: made by loosh-miner engine render
{
  services.loosh-miner.engineProfile = {
    engine = "vllm";
    purpose = "earning";
    tier = "h100_80gb";
    model = "qwen2.5-7b-instruct";
    servedName = "Qwen/Qwen2.5-7B-Instruct";
    context = 32768;
    parallel = 64;
    gpus = 4;
    gpuMemory = 85520809984;
    port = 8001;
    vllmVersion = "0.33.0";
    repository = "Qwen/Qwen2.5-7B-Instruct-AWQ";
    revision = "0123456789abcdef0123456789abcdef01234567";
    arguments = [
      "Qwen/Qwen2.5-7B-Instruct-AWQ"
      "--revision"
      "0123456789abcdef0123456789abcdef01234567"
      "--served-model-name"
      "Qwen/Qwen2.5-7B-Instruct"
      "--host"
      "0.0.0.0"
      "--port"
      "8001"
      "--max-model-len"
      "32768"
      "--gpu-memory-utilization"
      "0.90"
      "--tensor-parallel-size"
      "4"
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
      "nvidia.com/gpu=0"
      "nvidia.com/gpu=1"
      "nvidia.com/gpu=2"
      "nvidia.com/gpu=3"
    ];
    folders = [ ];
    settings = {
      LLM_BACKEND = "vllm";
      DEFAULT_MODEL = "Qwen/Qwen2.5-7B-Instruct";
      VLLM_API_BASE = "http://127.0.0.1:8001/v1";
    };
  };
}
