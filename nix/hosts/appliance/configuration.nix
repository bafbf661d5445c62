# A whole machine that is a miner: driver, vLLM, miner, firewall, monitoring. nix/README.md says how it gets onto one.
# What only you can know (SSH keys, the hotkey's file, the GPU's tier) comes from your own flake, beside this.
{
  config,
  lib,
  ...
}:
{
  networking.hostName = lib.mkDefault "loosh-miner";
  networking.firewall.enable = true;
  networking.nftables.enable = true;
  time.timeZone = lib.mkDefault "UTC";

  # The driver's licence; nothing else here is unfree.
  nixpkgs.config.allowUnfree = true;

  services.loosh-miner = {
    enable = true;
    engine = lib.mkDefault "vllm";
    profile = lib.mkDefault "a100_80gb";
    hotkeyFile = lib.mkDefault "/var/lib/secrets/loosh-miner-hotkey";
    openFirewall = true;
    register.enable = lib.mkDefault true;
    nvidia.enable = lib.mkDefault true;
    monitoring.enable = lib.mkDefault true;
  };

  # A hotkey that is not there yet is no reason to fail again and again.
  systemd.services.loosh-miner.unitConfig.ConditionPathExists =
    lib.mkIf (config.services.loosh-miner.hotkeyFile != null) config.services.loosh-miner.hotkeyFile;
  systemd.tmpfiles.settings.loosh-miner-secrets."/var/lib/secrets".d = {
    user = "root";
    group = "root";
    mode = "0700";
  };

  # SSH by key only. Without a key nobody can log in: users.users.root.openssh.authorizedKeys.keys.
  services.openssh = {
    enable = true;
    settings = {
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      PermitRootLogin = "prohibit-password";
    };
  };

  # A driver that changes under a running engine is the outage that such machines know best: upgrades are yours to start.
  system.autoUpgrade.enable = false;

  # Validators compare clocks, and a handshake may be off by a minute at most.
  services.timesyncd.enable = true;

  # A miner that swaps is late; swap is for what sleeps.
  zramSwap.enable = true;
  boot.kernel.sysctl."vm.swappiness" = 10;

  nix.settings.experimental-features = [
    "flakes"
    "nix-command"
  ];
  nix.gc = {
    automatic = true;
    dates = "weekly";
    options = "--delete-older-than 30d";
  };

  system.stateVersion = "26.05";
}
