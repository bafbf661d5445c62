# Evaluates the whole machine, each of its units and its assertions, and looks at what must hold; builds none of it.
{ self, pkgs }:
let
  inherit (pkgs) lib;
  inherit (self.nixosConfigurations.appliance) config;
  failed = map (each: each.message) (builtins.filter (each: !each.assertion) config.assertions);
  holds = {
    "all assertions hold: ${lib.concatStringsSep "; " failed}" = failed == [ ];
    "passwords open no SSH" = !config.services.openssh.settings.PasswordAuthentication;
    "upgrades are started by hand" = !config.system.autoUpgrade.enable;
    "the driver's modules are the open ones" = config.hardware.nvidia.open;
    "the engine is published on loopback only" =
      config.virtualisation.oci-containers.containers.vllm.ports == [ "127.0.0.1:8001:8001" ];
    "the GPUs come by CDI" =
      config.virtualisation.oci-containers.containers.vllm.devices == [ "nvidia.com/gpu=all" ];
    "the engine waits for the GPUs' names" =
      builtins.elem "nvidia-container-toolkit-cdi-generator.service"
        config.systemd.services.podman-vllm.after;
    "only SSH and the miner are open to the network" =
      lib.sort builtins.lessThan config.networking.firewall.allowedTCPPorts == [
        22
        8000
      ];
    "Prometheus, Alertmanager and Grafana listen on loopback" =
      config.services.prometheus.listenAddress == "127.0.0.1"
      && config.services.prometheus.alertmanager.listenAddress == "127.0.0.1"
      && config.services.grafana.settings.server.http_addr == "127.0.0.1";
  };
  broken = builtins.attrNames (lib.filterAttrs (_: held: !held) holds);
  # Evaluates everything that the machine is made of; without its context nothing is built.
  machine = builtins.unsafeDiscardStringContext config.system.build.toplevel.drvPath;
in
assert lib.assertMsg (broken == [ ]) "the appliance: ${lib.concatStringsSep "; " broken}";
pkgs.runCommand "loosh-miner-appliance" { } ''
  echo ${machine} > $out
''
