# SmolLM2-135M-Instruct, context 8192: made by loosh-miner engine render
{
  services.loosh-miner.engineProfile = {
    engine = "llamacpp";
    purpose = "development";
    tier = null;
    model = "SmolLM2-135M-Instruct";
    servedName = "SmolLM2-135M-Instruct";
    context = 8192;
    parallel = 8;
    gpus = 0;
    gpuMemory = 0;
    port = 0;
    vllmVersion = null;
    repository = null;
    revision = null;
    arguments = [ ];
    environment = { };
    devices = [ ];
    folders = [ ];
    settings = {
      LLM_BACKEND = "llamacpp";
      LLAMA_PARALLEL = "8";
    };
  };
}
