# mixtral-8x22b-instruct awq_int4, context 16384 on 1 x NVIDIA H100 80GB HBM3 (81559 MiB), tier h100_80gb: made by loosh-miner engine render
# no revision yet: run loosh-miner models pull first, then render again
{
  services.loosh-miner.engineProfile = {
    engine = "vllm";
    purpose = "earning";
    tier = "h100_80gb";
    model = "mixtral-8x22b-instruct";
    servedName = "mistralai/Mixtral-8x22B-Instruct-v0.1";
    context = 16384;
    parallel = 64;
    gpus = 1;
    gpuMemory = 85520809984;
    port = 8001;
    vllmVersion = "0.33.0";
    repository = "MaziyarPanahi/Mixtral-8x22B-Instruct-v0.1-AWQ";
    revision = null;
    arguments = [
      "MaziyarPanahi/Mixtral-8x22B-Instruct-v0.1-AWQ"
      "--served-model-name"
      "mistralai/Mixtral-8x22B-Instruct-v0.1"
      "--host"
      "0.0.0.0"
      "--port"
      "8001"
      "--max-model-len"
      "16384"
      "--gpu-memory-utilization"
      "0.95"
      "--tensor-parallel-size"
      "1"
      "--max-num-seqs"
      "64"
      "--enable-prefix-caching"
      "--enable-auto-tool-choice"
      "--tool-call-parser"
      "mistral"
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
      DEFAULT_MODEL = "mistralai/Mixtral-8x22B-Instruct-v0.1";
      VLLM_API_BASE = "http://127.0.0.1:8001/v1";
    };
  };
}
