# qwen2.5-14b-instruct q4_K_M, context 32768 on 1 x NVIDIA A10 (23028 MiB), tier a10_24gb: made by loosh-miner engine render
{ pkgs, ... }:
{
  services.ollama = {
    enable = true;
    package = pkgs.ollama-cuda;
    host = "127.0.0.1";
    port = 11434;
    loadModels = [
      "qwen2.5:14b-instruct-q4_K_M"
    ];
    environmentVariables = {
      OLLAMA_CONTEXT_LENGTH = "32768";
      OLLAMA_NUM_PARALLEL = "1";
      OLLAMA_MAX_LOADED_MODELS = "1";
      OLLAMA_KEEP_ALIVE = "-1";
    };
  };
  services.loosh-miner.settings = {
    LLM_BACKEND = "ollama";
    DEFAULT_MODEL = "qwen2.5:14b-instruct-q4_K_M";
    OLLAMA_BASE_URL = "http://127.0.0.1:11434";
  };
}
