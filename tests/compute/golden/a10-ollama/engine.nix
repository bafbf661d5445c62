# qwen2.5-14b-instruct q4_K_M, context 32768 on 1 x NVIDIA A10 (23028 MiB), tier a10_24gb: made by loosh-miner engine render
{
  services.loosh-miner.engineProfile = {
    engine = "ollama";
    purpose = "earning";
    tier = "a10_24gb";
    model = "qwen2.5-14b-instruct";
    servedName = "qwen2.5:14b-instruct-q4_K_M";
    context = 32768;
    parallel = 1;
    gpus = 1;
    gpuMemory = 24146608128;
    port = 11434;
    vllmVersion = null;
    repository = null;
    revision = null;
    arguments = [ ];
    environment = {
      OLLAMA_CONTEXT_LENGTH = "32768";
      OLLAMA_NUM_PARALLEL = "1";
      OLLAMA_MAX_LOADED_MODELS = "1";
      OLLAMA_KEEP_ALIVE = "-1";
    };
    devices = [
      "nvidia.com/gpu=all"
    ];
    folders = [ ];
    settings = {
      LLM_BACKEND = "ollama";
      DEFAULT_MODEL = "qwen2.5:14b-instruct-q4_K_M";
      OLLAMA_BASE_URL = "http://127.0.0.1:11434";
    };
  };
}
