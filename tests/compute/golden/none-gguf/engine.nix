# qwen2.5-7b-instruct gguf, context 32768: made by loosh-miner engine render
# no revision yet: run loosh-miner models pull first, then render again
{ ... }:
{
  services.loosh-miner.settings = {
    LLM_BACKEND = "llamacpp";
    DEFAULT_MODEL = "Qwen/Qwen2.5-7B-Instruct";
    LLAMA_CONTEXT = "32768";
    LLAMA_PARALLEL = "2";
  };
}
