# qwen2.5-7b-instruct q4_K_M, context 32768: made by loosh-miner engine render
{ pkgs, ... }:
{
  services.ollama = {
    enable = true;
    package = pkgs.ollama;
    host = "127.0.0.1";
    port = 11434;
    loadModels = [
      "qwen2.5:7b-instruct-q4_K_M"
    ];
    environmentVariables = {
      OLLAMA_CONTEXT_LENGTH = "32768";
      OLLAMA_NUM_PARALLEL = "2";
      OLLAMA_MAX_LOADED_MODELS = "1";
      OLLAMA_KEEP_ALIVE = "-1";
    };
  };
  services.loosh-miner.settings = {
    LLM_BACKEND = "ollama";
    DEFAULT_MODEL = "qwen2.5:7b-instruct-q4_K_M";
    OLLAMA_BASE_URL = "http://127.0.0.1:11434";
  };
}
