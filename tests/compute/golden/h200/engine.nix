# qwen2.5-32b-instruct awq_int4, context 32768 on 1 x NVIDIA H200 (143771 MiB), tier h100_80gb: made by loosh-miner engine render
# no revision yet: run loosh-miner models pull first, then render again
{ ... }:
{
  virtualisation.oci-containers.containers.vllm = {
    image = "docker.io/vllm/vllm-openai:v0.33.0"; # pin it by its digest
    cmd = [
      "Qwen/Qwen2.5-32B-Instruct-AWQ"
      "--served-model-name"
      "Qwen/Qwen2.5-32B-Instruct"
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
      "hermes"
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
    volumes = [
      "/var/cache/vllm:/var/cache/vllm"
    ];
    ports = [
      "127.0.0.1:8001:8001"
    ];
    extraOptions = [
      "--shm-size=8g"
    ];
  };
  hardware.nvidia-container-toolkit.enable = true;
  systemd.services.podman-vllm = {
    after = [
      "nvidia-container-toolkit-cdi-generator.service"
    ];
    requires = [
      "nvidia-container-toolkit-cdi-generator.service"
    ];
    serviceConfig.TimeoutStartSec = "45min";
  };
  systemd.tmpfiles.rules = [
    "d /var/cache/vllm 0700 root root -"
  ];
  services.loosh-miner.settings = {
    LLM_BACKEND = "vllm";
    DEFAULT_MODEL = "Qwen/Qwen2.5-32B-Instruct";
    VLLM_API_BASE = "http://127.0.0.1:8001/v1";
  };
}
