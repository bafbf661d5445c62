# Ollama, by nixpkgs' own module: on loopback, with the context that was chosen, its model loaded after the start.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) types;
  cfg = config.services.loosh-miner;
  profile = cfg.engineProfile;
in
{
  options.services.loosh-miner.ollama.package = lib.mkOption {
    type = types.package;
    default = if cfg.nvidia.enable then pkgs.ollama-cuda else pkgs.ollama;
    defaultText = lib.literalExpression "if config.services.loosh-miner.nvidia.enable then pkgs.ollama-cuda else pkgs.ollama";
    description = "The Ollama to run.";
  };

  config = lib.mkIf (cfg.enable && cfg.engine == "ollama" && profile ? servedName) {
    services.ollama = {
      enable = true;
      inherit (cfg.ollama) package;
      host = "127.0.0.1";
      inherit (profile) port;
      loadModels = [ profile.servedName ];
      environmentVariables = profile.environment;
    };
    systemd.services.loosh-miner.after = [ "ollama.service" ];
  };
}
