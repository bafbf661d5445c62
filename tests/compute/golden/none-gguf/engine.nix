# qwen2.5-7b-instruct gguf, context 32768: made by loosh-miner engine render
# no revision yet: run loosh-miner models pull first, then render again
{
  services.loosh-miner.engineProfile = {
    engine = "llamacpp";
    purpose = "earning";
    tier = null;
    model = "qwen2.5-7b-instruct";
    servedName = "Qwen/Qwen2.5-7B-Instruct";
    context = 32768;
    parallel = 2;
    gpus = 0;
    gpuMemory = 0;
    port = 0;
    vllmVersion = null;
    repository = "Qwen/Qwen2.5-7B-Instruct-GGUF";
    revision = null;
    arguments = [ ];
    environment = { };
    devices = [ ];
    folders = [ ];
    settings = {
      LLM_BACKEND = "llamacpp";
      DEFAULT_MODEL = "Qwen/Qwen2.5-7B-Instruct";
      LLAMA_CONTEXT = "32768";
      LLAMA_PARALLEL = "2";
    };
  };
}
