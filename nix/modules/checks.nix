# What cannot work is refused when the machine is built, not found out when it runs: each text names the option.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.loosh-miner;
  known = lib.importJSON ../settings.json;
  given = lib.filterAttrs (_: value: value != null) cfg.settings;
  unknown = builtins.filter (name: !(known ? ${name})) (builtins.attrNames given);
  secrets = builtins.filter (name: known.${name}.secret or false) (builtins.attrNames given);
  listeners = {
    "services.loosh-miner.port" = cfg.port;
    "services.loosh-miner.adminPort" = cfg.adminPort;
  }
  // lib.optionalAttrs (cfg.engineProfile != null && cfg.engineProfile.port or 0 != 0) {
    "services.loosh-miner.engineProfile.port" = cfg.engineProfile.port;
  }
  // lib.optionalAttrs cfg.monitoring.enable (
    {
      "services.loosh-miner.monitoring.port" = cfg.monitoring.port;
      "services.loosh-miner.monitoring.alertmanagerPort" = cfg.monitoring.alertmanagerPort;
      "services.prometheus.exporters.node.port" = config.services.prometheus.exporters.node.port;
    }
    // lib.optionalAttrs cfg.monitoring.grafana.enable {
      "services.loosh-miner.monitoring.grafana.port" = cfg.monitoring.grafana.port;
    }
  );
  names = builtins.attrNames listeners;
  clashes = lib.concatMap (
    name:
    map (other: "${name} and ${other} are both ${toString listeners.${name}}") (
      builtins.filter (other: name < other && listeners.${name} == listeners.${other}) names
    )
  ) names;
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.development || cfg.hotkeyFile != null;
        message = ''
          services.loosh-miner.hotkeyFile: the miner needs a hotkey. Name its file (outside of the store), or set
          services.loosh-miner.development to try things out without one.
        '';
      }
      {
        assertion = !(cfg.development && cfg.hotkeyFile != null);
        message = "services.loosh-miner.development is on, so hotkeyFile would not be used: remove one of the two.";
      }
      {
        assertion = !(cfg.development && (cfg.openFirewall || cfg.validatorFirewall.enable || cfg.register.enable));
        message = ''
          services.loosh-miner.development keeps to loopback: openFirewall, validatorFirewall and register are of no use.
        '';
      }
      {
        assertion = cfg.hotkeyPasswordFile == null || cfg.hotkeyFile != null;
        message = "services.loosh-miner.hotkeyPasswordFile is given, but no hotkeyFile.";
      }
      {
        assertion = !cfg.validatorFirewall.enable || cfg.openFirewall || !config.networking.firewall.enable;
        message = ''
          services.loosh-miner.validatorFirewall lets validators pass, but NixOS's own firewall does not: set
          services.loosh-miner.openFirewall.
        '';
      }
      {
        assertion = unknown == [ ];
        message = ''
          services.loosh-miner.settings: ${lib.concatStringsSep ", " unknown} is no setting of the miner: README's table
          lists them.
        '';
      }
      {
        assertion = secrets == [ ];
        message = ''
          services.loosh-miner.settings: ${lib.concatStringsSep ", " secrets} is a secret, and what is set here can be read
          by everybody on the machine: put it into the file that services.loosh-miner.environmentFile names.
        '';
      }
      {
        assertion = !(given ? HOTKEY_FILE || given ? HOTKEY_PASSWORD_FILE);
        message = "services.loosh-miner.settings: use services.loosh-miner.hotkeyFile and hotkeyPasswordFile instead.";
      }
      {
        assertion = clashes == [ ];
        message = "services.loosh-miner: ${lib.concatStringsSep "; " clashes}: give one of them another port.";
      }
    ];
  };
}
