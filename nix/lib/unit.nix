# What the miner's own units have in common: user, folders, settings, the hotkey as a credential, the sandbox.
{
  config,
  lib,
}:
let
  cfg = config.services.loosh-miner;
  # For a unit that looks at the GPUs, or computes on them.
  gpu = {
    PrivateDevices = false;
    DeviceAllow = [
      "char-nvidia rw"
      "char-nvidia-uvm rw"
      "char-nvidia-caps rw"
    ];
    SupplementaryGroups = [ "render" ];
  };
in
{
  inherit gpu;

  # The same, and the Xid errors in the kernel's log: a capability that holds outside of a user namespace only.
  kernelLog = gpu // {
    AmbientCapabilities = "CAP_SYSLOG";
    CapabilityBoundingSet = "CAP_SYSLOG";
    DeviceAllow = gpu.DeviceAllow ++ [ "/dev/kmsg r" ];
    PrivateUsers = false;
    ProtectKernelLogs = false;
  };

  environment =
    (import ./environment.nix { inherit lib; }).unit cfg.settings
    // {
      HOME = cfg.settings.STATE_DIR;
    }
    // lib.optionalAttrs (cfg.hotkeyFile != null) {
      # %d is the directory of the unit's credentials.
      HOTKEY_FILE = "%d/hotkey";
    }
    // lib.optionalAttrs (cfg.nvidia.enable || cfg.llamacpp.cuda) {
      # Where NixOS puts the driver's libraries; NVML is read by that name.
      LD_LIBRARY_PATH = "/run/opengl-driver/lib";
    };

  serviceConfig =
    import ./hardening.nix
    // {
      User = "loosh-miner";
      Group = "loosh-miner";
      StateDirectory = "loosh-miner";
      StateDirectoryMode = "0700";
      WorkingDirectory = cfg.settings.STATE_DIR;
      LoadCredential =
        lib.optional (cfg.hotkeyFile != null) "hotkey:${cfg.hotkeyFile}"
        ++ lib.optional (cfg.hotkeyPasswordFile != null) "hotkey-password:${cfg.hotkeyPasswordFile}";
    }
    // lib.optionalAttrs (cfg.environmentFile != null) {
      EnvironmentFile = cfg.environmentFile;
    };
}
