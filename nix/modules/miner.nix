# The miner itself: its user, its unit, its settings, and its command for who administers the machine.
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
  environment = (import ../lib/environment.nix { inherit lib; }).plain (
    cfg.settings // lib.optionalAttrs (cfg.hotkeyFile != null) { HOTKEY_FILE = cfg.hotkeyFile; }
  );
  # The package's commands, with this machine's settings.
  command = pkgs.runCommand "loosh-miner-command" { nativeBuildInputs = [ pkgs.makeWrapper ]; } ''
    makeWrapper ${lib.getExe cfg.package} $out/bin/loosh-miner ${
      lib.escapeShellArgs (
        lib.concatLists (
          lib.mapAttrsToList (name: value: [
            "--set-default"
            name
            value
          ]) environment
        )
      )
    }
  '';
in
{
  options.services.loosh-miner = {
    enable = lib.mkEnableOption "the Loosh miner (Bittensor subnet 78)";

    package = lib.mkOption {
      type = types.package;
      defaultText = lib.literalExpression "the flake's own `packages.loosh-miner`";
      description = "The miner to run.";
    };

    settings = lib.mkOption {
      type = types.attrsOf (
        types.nullOr (
          types.oneOf [
            types.bool
            types.int
            types.float
            types.str
            (types.listOf types.str)
          ]
        )
      );
      default = { };
      example = lib.literalExpression ''
        {
          MAX_CONCURRENT_REQUESTS = 16;
          VALIDATOR_HOTKEYS = [ "5F4tQyWrhfGVcNhoqeiNsR6KjD4wMZ2kfhLj4oHYuyHbZAc3" ];
          LOG_LEVEL = "DEBUG";
        }
      '';
      description = ''
        Any setting of the miner, by its own name as in README's table; lists are joined by commas, null leaves the
        miner's default. Other names are refused, and so are secrets: everything here can be read by all users of the
        machine. Secrets go into {option}`services.loosh-miner.environmentFile`.
      '';
    };

    environmentFile = lib.mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/run/secrets/loosh-miner.env";
      description = ''
        File with secret settings as `NAME=value` lines (HF_TOKEN, API_KEY, ENGINE_API_KEY), outside of the store. systemd
        reads it as root, so it can be closed to everybody else.
      '';
    };

    hotkeyFile = lib.mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/run/secrets/loosh-miner-hotkey";
      description = ''
        The hotkey's file out of a Bittensor wallet, outside of the store. The miner gets it as a credential of its unit:
        root reads it, and nobody else needs to. The coldkey never belongs on this machine.
      '';
    };

    hotkeyPasswordFile = lib.mkOption {
      type = types.nullOr types.externalPath;
      default = null;
      example = "/run/secrets/loosh-miner-hotkey-password";
      description = "File with the password of an encrypted hotkey; a credential of the unit as well.";
    };

    development = lib.mkOption {
      type = types.bool;
      default = false;
      description = "Run without hotkey and chain, on loopback only, to try things out. It earns nothing.";
    };

    publicAddress = lib.mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "203.0.113.7";
      description = ''
        IP address or host name at which validators find the miner, for {option}`services.loosh-miner.register.enable`;
        null takes the public address of this machine's own interfaces.
      '';
    };

    publicPort = lib.mkOption {
      type = types.nullOr types.port;
      default = null;
      example = 18000;
      description = "The port posted on chain, where a router forwards another one; null posts {option}`services.loosh-miner.port`.";
    };

    port = lib.mkOption {
      type = types.port;
      default = 8000;
      description = "Port of the validators' listener.";
    };

    adminPort = lib.mkOption {
      type = types.port;
      default = 8010;
      description = "Port of the admin listener on loopback: metrics, health, drain, /v1.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.loosh-miner.settings = {
      API_PORT = cfg.port;
      ADMIN_PORT = cfg.adminPort;
      STATE_DIR = "/var/lib/loosh-miner";
      DEVELOPMENT_MODE = if cfg.development then "on" else "off";
      EXTERNAL_ADDRESS = lib.mkIf (cfg.publicAddress != null) cfg.publicAddress;
      EXTERNAL_PORT = lib.mkIf (cfg.publicPort != null) cfg.publicPort;
    };

    users.users.loosh-miner = {
      isSystemUser = true;
      group = "loosh-miner";
      home = "/var/lib/loosh-miner";
      description = "Loosh miner";
    };
    users.groups.loosh-miner = { };

    # Before any unit of ours: the firewall looks into it ahead of the miner's first start.
    systemd.tmpfiles.settings.loosh-miner.${cfg.settings.STATE_DIR}.d = {
      user = "loosh-miner";
      group = "loosh-miner";
      mode = "0700";
    };

    environment.systemPackages = [ command ];

    systemd.services.loosh-miner = {
      description = "Loosh miner";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "time-sync.target"
      ];
      # However often it failed, it is tried again: nobody watches this machine at night.
      startLimitIntervalSec = 0;
      inherit (unit) environment;
      serviceConfig =
        unit.serviceConfig
        // {
          Type = "exec";
          ExecStart = "${lib.getExe cfg.package} serve";
          Restart = "always";
          RestartSec = 2;
          # SIGTERM, to the first process alone, lets the answers in flight finish (60 s) and the server close (70 s).
          KillMode = "mixed";
          TimeoutStartSec = 90;
          TimeoutStopSec = 85;
          LimitNOFILE = 16384;
          OOMPolicy = "stop";
        }
        // lib.optionalAttrs cfg.llamacpp.cuda (
          unit.gpu
          // {
            # CUDA compiles kernels for the card at hand and runs them.
            MemoryDenyWriteExecute = false;
            SystemCallFilter = [
              "@system-service"
              "~@privileged"
            ];
          }
        );
    };
  };
}
