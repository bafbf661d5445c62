# What is done now and then: keep the address posted on chain, and let the doctor look at everything at night.
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
  metrics = "/var/lib/loosh-miner-metrics";
  # This machine's own addresses are asked of the kernel.
  families = [
    "AF_INET"
    "AF_INET6"
    "AF_NETLINK"
    "AF_UNIX"
  ];
in
{
  options.services.loosh-miner = {
    register = {
      enable = lib.mkOption {
        type = types.bool;
        default = false;
        description = ''
          Keep the miner's address posted on chain (`loosh-miner register --watch`). The hotkey must have a UID before:
          that takes the coldkey and is done elsewhere.
        '';
      };

      interval = lib.mkOption {
        type = types.str;
        default = "10min";
        description = "How often the address is compared with the chain's, as systemd writes time spans.";
      };
    };

    doctor = {
      enable = lib.mkOption {
        type = types.bool;
        default = true;
        description = "Let `loosh-miner doctor` look at everything each night; its findings go to the journal and to metrics.";
      };

      calendar = lib.mkOption {
        type = types.str;
        default = "*-*-* 03:30:00";
        description = "When, as systemd writes calendar events.";
      };
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (lib.mkIf cfg.register.enable {
        systemd.services.loosh-miner-register = {
          description = "Loosh miner: keep the address posted on chain";
          wants = [ "network-online.target" ];
          after = [
            "network-online.target"
            "loosh-miner.service"
          ];
          inherit (unit) environment;
          serviceConfig = unit.serviceConfig // {
            Type = "oneshot";
            ExecStart = "${lib.getExe cfg.package} register --watch";
            RestrictAddressFamilies = families;
            TimeoutStartSec = "5min";
          };
        };
        systemd.timers.loosh-miner-register = {
          description = "Loosh miner: keep the address posted on chain";
          wantedBy = [ "timers.target" ];
          timerConfig = {
            OnBootSec = "2min";
            OnActiveSec = cfg.register.interval;
            OnUnitInactiveSec = cfg.register.interval;
            RandomizedDelaySec = "30s";
          };
        };
      })
      (lib.mkIf cfg.doctor.enable {
        systemd.tmpfiles.settings.loosh-miner-metrics.${metrics}.d = {
          user = "loosh-miner";
          group = "loosh-miner";
          mode = "0755";
        };
        systemd.services.loosh-miner-doctor = {
          description = "Loosh miner: look at everything it needs to earn";
          wants = [ "network-online.target" ];
          after = [
            "network-online.target"
            "loosh-miner.service"
          ];
          path = [
            config.systemd.package
            pkgs.nftables
          ];
          inherit (unit) environment;
          serviceConfig =
            unit.serviceConfig
            // lib.optionalAttrs cfg.nvidia.enable unit.kernelLog
            // {
              Type = "oneshot";
              ExecStart = "${lib.getExe cfg.package} doctor --textfile ${metrics}/doctor.prom";
              # Warnings are no failure; both are told as metrics.
              SuccessExitStatus = 4;
              ReadWritePaths = [ metrics ];
              RestrictAddressFamilies = families;
              # node_exporter reads the file as another user.
              UMask = "0022";
              TimeoutStartSec = "2min";
            };
        };
        systemd.timers.loosh-miner-doctor = {
          description = "Loosh miner: look at everything it needs to earn";
          wantedBy = [ "timers.target" ];
          timerConfig = {
            OnBootSec = "15min";
            OnCalendar = cfg.doctor.calendar;
            RandomizedDelaySec = "1h";
            Persistent = true;
          };
        };
      })
    ]
  );
}
