# NVIDIA's driver, with its open kernel modules, for computing only.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) types;
  cfg = config.services.loosh-miner;
in
{
  options.services.loosh-miner.nvidia = {
    enable = lib.mkOption {
      type = types.bool;
      default = false;
      description = ''
        Install NVIDIA's driver (Turing and newer cards). It is unfree: allow it with `nixpkgs.config.allowUnfree` or a
        predicate.
      '';
    };

    nvswitch = lib.mkOption {
      type = types.bool;
      default = false;
      description = "The GPUs are joined by NVSwitch (SXM boards): take the data centre driver with its fabric manager.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.nvidia.enable) {
    hardware.graphics.enable = true;
    hardware.nvidia = {
      open = true;
      datacenter.enable = cfg.nvidia.nvswitch;
      # Keeps the driver loaded while nothing runs; the data centre driver does that itself.
      nvidiaPersistenced = lib.mkIf (!cfg.nvidia.nvswitch) true;
    };
    # Also without a screen: this is what makes NixOS load the driver. The data centre driver excludes it.
    services.xserver.videoDrivers = lib.mkIf (!cfg.nvidia.nvswitch) [ "nvidia" ];
    hardware.nvidia-container-toolkit.enable = lib.mkIf (cfg.engine == "vllm") true;
  };
}
