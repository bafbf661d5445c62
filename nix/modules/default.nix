# The miner as NixOS modules; `self` is the flake, for the package that fits these modules.
{ self }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  packages = self.packages.${pkgs.stdenv.hostPlatform.system};
in
{
  imports = [
    ./miner.nix
    ./engine.nix
    ./vllm.nix
    ./ollama.nix
    ./nvidia.nix
    ./firewall.nix
    ./timers.nix
    ./monitoring.nix
    ./checks.nix
  ];

  services.loosh-miner.package = lib.mkDefault (
    if config.services.loosh-miner.llamacpp.cuda then packages.loosh-miner-cuda else packages.loosh-miner
  );
}
