# qwen2.5-7b-instruct q4_K_M, context 32768: made by loosh-miner engine render
{
  services.loosh-miner.engineProfile = {
    engine = "ollama";
    purpose = "earning";
    tier = null;
    model = "qwen2.5-7b-instruct";
    servedName = "qwen2.5:7b-instruct-q4_K_M";
    context = 32768;
    parallel = 2;
    gpus = 0;
    gpuMemory = 0;
    port = 11434;
    vllmVersion = null;
    repository = null;
    revision = null;
    arguments = [ ];
    environment = {
      OLLAMA_CONTEXT_LENGTH = "32768";
      OLLAMA_NUM_PARALLEL = "2";
      OLLAMA_MAX_LOADED_MODELS = "1";
      OLLAMA_KEEP_ALIVE = "-1";
    };
    devices = [ ];
    folders = [ ];
    settings = {
      LLM_BACKEND = "ollama";
      DEFAULT_MODEL = "qwen2.5:7b-instruct-q4_K_M";
      OLLAMA_BASE_URL = "http://127.0.0.1:11434";
    };
  };
}
