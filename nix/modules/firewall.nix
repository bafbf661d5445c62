# Who reaches the miner's port: NixOS's own firewall opens it, and the validators' table closes it to strangers.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) types;
  cfg = config.services.loosh-miner;
  unit = import ../lib/unit.nix { inherit config lib; };
  # Root with the two capabilities it takes: to load rules, and to read the miner's list of validators.
  service = arguments: {
    path = [ pkgs.nftables ];
    environment = removeAttrs unit.environment [ "HOTKEY_FILE" ];
    serviceConfig =
      import ../lib/hardening.nix
      // {
        Type = "oneshot";
        ExecStart = "${lib.getExe cfg.package} firewall apply${arguments}";
        CapabilityBoundingSet = [
          "CAP_DAC_OVERRIDE"
          "CAP_NET_ADMIN"
        ];
        PrivateUsers = false;
        ReadWritePaths = [ "-${cfg.settings.STATE_DIR}" ];
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_NETLINK"
          "AF_UNIX"
        ];
        TimeoutStartSec = "2min";
      }
      // lib.optionalAttrs (cfg.environmentFile != null) {
        EnvironmentFile = cfg.environmentFile;
      };
  };
in
{
  options.services.loosh-miner = {
    openFirewall = lib.mkOption {
      type = types.bool;
      default = false;
      description = "Open {option}`services.loosh-miner.port` in NixOS's firewall, which validators need.";
    };

    validatorFirewall = {
      enable = lib.mkOption {
        type = types.bool;
        default = false;
        description = ''
          Let only addresses that allowed validators have published reach the port, by a table of its own in nftables; no
          other port is judged. A validator that has published none can't reach the miner and scores it zero: name such
          addresses in `settings.FIREWALL_ALLOW`. Switched off again, the table stays until the next boot or
          `loosh-miner firewall remove`.
        '';
      };

      interval = lib.mkOption {
        type = types.str;
        default = "5min";
        description = "How often the addresses are looked up anew, as systemd writes time spans.";
      };
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (lib.mkIf cfg.openFirewall { networking.firewall.allowedTCPPorts = [ cfg.port ]; })
      (lib.mkIf cfg.validatorFirewall.enable {
        # The last good addresses, before the miner starts and before there is a chain to ask.
        systemd.services.loosh-miner-firewall-restore = lib.recursiveUpdate (service " --restore") {
          description = "Loosh miner: the validators' firewall as it was before the boot";
          wantedBy = [ "multi-user.target" ];
          before = [ "loosh-miner.service" ];
          after = [ "nftables.service" ];
          serviceConfig = {
            RemainAfterExit = true;
            # 3: nothing was applied yet.
            SuccessExitStatus = 3;
          };
        };
        systemd.services.loosh-miner-firewall = lib.recursiveUpdate (service "") {
          description = "Loosh miner: let only validators reach the port";
          wants = [ "network-online.target" ];
          after = [
            "network-online.target"
            "loosh-miner-firewall-restore.service"
          ];
        };
        systemd.timers.loosh-miner-firewall = {
          description = "Loosh miner: look up the validators' addresses anew";
          wantedBy = [ "timers.target" ];
          timerConfig = {
            OnBootSec = "1min";
            OnActiveSec = "30s";
            OnUnitInactiveSec = cfg.validatorFirewall.interval;
            RandomizedDelaySec = "30s";
          };
        };
      })
    ]
  );
}
