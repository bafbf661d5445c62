# The miner as an OCI image, streamed: nix build .#image && ./result | podman load
{
  lib,
  dockerTools,
  loosh-miner,
}:
dockerTools.streamLayeredImage {
  name = "loosh-miner";
  tag = loosh-miner.version;
  contents = [
    dockerTools.caCertificates
    dockerTools.fakeNss
    loosh-miner
  ];
  fakeRootCommands = ''
    mkdir -p tmp var/lib/loosh-miner
    chmod 1777 tmp
    chmod 0700 var/lib/loosh-miner
    chown 65534:65534 var/lib/loosh-miner
  '';
  config = {
    Entrypoint = [ (lib.getExe loosh-miner) ];
    Cmd = [ "serve" ];
    Env = [
      "HOME=/var/lib/loosh-miner"
      "LOG_FORMAT=json"
      "STATE_DIR=/var/lib/loosh-miner"
    ];
    ExposedPorts."8000/tcp" = { };
    Labels."org.opencontainers.image.description" = loosh-miner.meta.description;
    # SIGTERM lets the answers in flight finish.
    StopSignal = "SIGTERM";
    User = "65534:65534";
    Volumes."/var/lib/loosh-miner" = { };
    WorkingDir = "/var/lib/loosh-miner";
  };
}
