# mistral-nemo-instruct-2407 fp8_vllm, context 32768 on 1 x NVIDIA A10 (23028 MiB), tier a10_24gb: made by loosh-miner engine render
# no revision yet: run loosh-miner models pull first, then render again
{
  services.loosh-miner.engineProfile = {
    engine = "vllm";
    purpose = "earning";
    tier = "a10_24gb";
    model = "mistral-nemo-instruct-2407";
    servedName = "mistralai/Mistral-Nemo-Instruct-2407";
    context = 32768;
    parallel = 64;
    gpus = 1;
    gpuMemory = 24146608128;
    port = 8001;
    vllmVersion = "0.33.0";
    repository = "RedHatAI/Mistral-Nemo-Instruct-2407-FP8";
    revision = null;
    arguments = [
      "RedHatAI/Mistral-Nemo-Instruct-2407-FP8"
      "--served-model-name"
      "mistralai/Mistral-Nemo-Instruct-2407"
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
      DEFAULT_MODEL = "mistralai/Mistral-Nemo-Instruct-2407";
      VLLM_API_BASE = "http://127.0.0.1:8001/v1";
    };
  };
}
