# Prometheus with the alarms, Alertmanager, Grafana with the dashboards, and the exporters: all of it on loopback.
# Alarms and dashboards are the very files that Ansible's role brings.
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
  loopback = "127.0.0.1";
  metrics = "/var/lib/loosh-miner-metrics";
  files = ../../ansible/roles/monitoring/files;
  dashboards = builtins.path {
    name = "loosh-miner-dashboards";
    path = files;
    filter = path: kind: kind == "directory" || lib.hasSuffix ".json" path;
  };
  grafanaHome = "/var/lib/grafana";
  targets = ports: [
    {
      targets = map (port: "${loopback}:${toString port}") ports;
      labels.box = config.networking.hostName;
    }
  ];
  job = name: port: {
    job_name = name;
    static_configs = targets [ port ];
  };
in
{
  options.services.loosh-miner.monitoring = {
    enable = lib.mkOption {
      type = types.bool;
      default = false;
      description = "Watch the machine, its GPUs, the engine and the miner with Prometheus, and raise alarms.";
    };

    port = lib.mkOption {
      type = types.port;
      default = 9090;
      description = "Prometheus's port on loopback.";
    };

    retention = lib.mkOption {
      type = types.str;
      default = "30d";
      description = "How long Prometheus keeps what it has seen.";
    };

    webhooks = lib.mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "http://127.0.0.1:9095/alert" ];
      description = ''
        Where Alertmanager sends alarms. The addresses can be read by all users of the machine: one with a secret in it
        belongs into `services.prometheus.alertmanager.environmentFile`, and here its name as `$NAME`.
      '';
    };

    alertmanagerPort = lib.mkOption {
      type = types.port;
      default = 9093;
      description = "Alertmanager's port on loopback.";
    };

    grafana = {
      enable = lib.mkOption {
        type = types.bool;
        default = true;
        description = ''
          Show the dashboards with Grafana. Its secret key and the password of `admin` are made at its first start, in
          `/var/lib/grafana/secret-key` and `/var/lib/grafana/admin-password`.
        '';
      };

      port = lib.mkOption {
        type = types.port;
        default = 3000;
        description = "Grafana's port on loopback.";
      };
    };
  };

  config = lib.mkIf (cfg.enable && cfg.monitoring.enable) (
    lib.mkMerge [
      {
        services.prometheus = {
          enable = true;
          listenAddress = loopback;
          inherit (cfg.monitoring) port;
          retentionTime = cfg.monitoring.retention;
          globalConfig = {
            scrape_interval = "15s";
            evaluation_interval = "15s";
          };
          ruleFiles = [ (files + "/loosh-miner.rules.yml") ];
          alertmanagers = [ { static_configs = targets [ cfg.monitoring.alertmanagerPort ]; } ];
          scrapeConfigs = [
            (job "loosh-miner" cfg.adminPort)
            (job "node" config.services.prometheus.exporters.node.port)
            (job "prometheus" cfg.monitoring.port)
            (job "alertmanager" cfg.monitoring.alertmanagerPort)
          ]
          ++ lib.optional (cfg.engine == "vllm" && cfg.engineProfile ? port) (
            job "engine" cfg.engineProfile.port
          )
          ++ lib.optional cfg.nvidia.enable (
            job "nvidia-gpu" config.services.prometheus.exporters.nvidia-gpu.port
          );

          alertmanager = {
            enable = true;
            listenAddress = loopback;
            port = cfg.monitoring.alertmanagerPort;
            # One machine: no cluster, and no port for one.
            extraFlags = [ "--cluster.listen-address=" ];
            configuration = {
              route = {
                receiver = "operator";
                group_by = [
                  "alertname"
                  "box"
                ];
                group_wait = "30s";
                group_interval = "5m";
                repeat_interval = "4h";
              };
              receivers = [
                {
                  name = "operator";
                  webhook_configs = map (url: {
                    inherit url;
                    send_resolved = true;
                  }) cfg.monitoring.webhooks;
                }
              ];
              inhibit_rules = [
                {
                  # A miner that does not answer at all says why already.
                  source_matchers = [ ''alertname = "MinerDown"'' ];
                  target_matchers = [ ''alertname =~ "MinerNotReady|NoAnswer.*"'' ];
                  equal = [ "box" ];
                }
              ];
            };
          };

          exporters.node = {
            enable = true;
            listenAddress = loopback;
            enabledCollectors = [ "systemd" ];
            extraFlags = [ "--collector.textfile.directory=${metrics}" ];
          };
        };
        systemd.tmpfiles.settings.loosh-miner-metrics.${metrics}.d = {
          user = "loosh-miner";
          group = "loosh-miner";
          mode = "0755";
        };
      }

      (lib.mkIf cfg.nvidia.enable {
        services.prometheus.exporters.nvidia-gpu = {
          enable = true;
          listenAddress = loopback;
        };
        # What the alarms look at: Xid errors out of the kernel's log, the driver, GPUs that are gone.
        systemd.services.loosh-miner-gpu = {
          description = "Loosh miner: the GPUs' state for node_exporter";
          environment = {
            HOME = metrics;
            LD_LIBRARY_PATH = "/run/opengl-driver/lib";
          };
          serviceConfig =
            removeAttrs unit.serviceConfig [
              "EnvironmentFile"
              "LoadCredential"
              "StateDirectory"
              "StateDirectoryMode"
            ]
            // unit.kernelLog
            // {
              Type = "oneshot";
              ExecStart = "${lib.getExe cfg.package} hardware --textfile ${metrics}/gpu.prom";
              PrivateNetwork = true;
              ReadWritePaths = [ metrics ];
              UMask = "0022";
              WorkingDirectory = metrics;
              TimeoutStartSec = "45s";
            };
        };
        systemd.timers.loosh-miner-gpu = {
          description = "Loosh miner: the GPUs' state for node_exporter";
          wantedBy = [ "timers.target" ];
          timerConfig = {
            OnBootSec = "1min";
            OnUnitActiveSec = "1min";
            AccuracySec = "5s";
          };
        };
      })

      (lib.mkIf cfg.monitoring.grafana.enable {
        services.grafana = {
          enable = true;
          settings = {
            server = {
              http_addr = loopback;
              http_port = cfg.monitoring.grafana.port;
            };
            security = {
              admin_password = "$__file{${grafanaHome}/admin-password}";
              secret_key = "$__file{${grafanaHome}/secret-key}";
            };
            analytics = {
              reporting_enabled = false;
              check_for_updates = false;
              check_for_plugin_updates = false;
            };
            users.allow_sign_up = false;
          };
          provision = {
            enable = true;
            datasources.settings = {
              apiVersion = 1;
              datasources = [
                {
                  name = "Prometheus";
                  uid = "loosh-miner";
                  type = "prometheus";
                  access = "proxy";
                  url = "http://${loopback}:${toString cfg.monitoring.port}";
                  isDefault = true;
                  editable = false;
                  jsonData.timeInterval = "15s";
                }
              ];
            };
            dashboards.settings = {
              apiVersion = 1;
              providers = [
                {
                  name = "loosh-miner";
                  options.path = dashboards;
                }
              ];
            };
          };
        };
        # Secrets are made on the machine, and never leave it.
        systemd.services.grafana.preStart = lib.mkBefore ''
          for secret in secret-key admin-password; do
            if [ ! -s ${grafanaHome}/$secret ]; then
              (umask 077 && head -c 24 /dev/urandom | base64 -w 0 > ${grafanaHome}/$secret)
            fi
          done
        '';
      })
    ]
  );
}
