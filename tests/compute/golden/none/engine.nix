# SmolLM2-135M-Instruct, context 8192: made by loosh-miner engine render
{ ... }:
{
  services.loosh-miner.settings = {
    LLM_BACKEND = "llamacpp";
    LLAMA_PARALLEL = "8";
  };
}
