# vLLM in its own container, out of nixpkgs' declarations for OCI containers; GPUs come by CDI, the port is published on
# loopback only, and the weights are fetched and checked before it starts.
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
  unit = import ../lib/unit.nix { inherit config lib; };
  cache = "/var/cache/vllm";
  generator = "nvidia-container-toolkit-cdi-generator.service";
  locked = lib.importJSON cfg.vllm.modelsLock;
  lockedRevision = locked.weights.${profile.repository}.revision or null;
  revision =
    if profile.revision != null then
      profile.revision
    else if cfg.vllm.modelsLock != null then
      lockedRevision
    else
      null;
  repositoryFolder = "models--${builtins.replaceStrings [ "/" ] [ "--" ] profile.repository}";
  hub = profile.environment.HF_HUB_CACHE or "${profile.environment.HF_HOME}/hub";
  version = profile.vllmVersion;
in
{
  options.services.loosh-miner.vllm = {
    image = lib.mkOption {
      type = types.str;
      default = "docker.io/vllm/vllm-openai";
      description = "vLLM's container image, without tag and digest.";
    };

    digest = lib.mkOption {
      type = types.nullOr (types.strMatching "sha256:[0-9a-f]{64}");
      default = null;
      example = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
      description = ''
        Digest of the image, so that it is the same on every machine and in a year: `skopeo inspect --format '{{.Digest}}'
        docker://docker.io/vllm/vllm-openai:v…` names it. null takes the tag of the profile's version, and warns.
      '';
    };

    modelsLock = lib.mkOption {
      type = types.nullOr types.path;
      default = null;
      example = lib.literalExpression "./models.lock.json";
      description = ''
        The `models.lock.json` that `loosh-miner models pull` wrote: commit and checksums of the weights, so that every
        machine serves the same ones. null takes the newest commit at the first start.
      '';
    };

    pullWeights = lib.mkOption {
      type = types.bool;
      default = true;
      description = "Fetch the weights before vLLM starts (`loosh-miner-weights.service`); off where they are copied by hand.";
    };

    environmentFiles = lib.mkOption {
      type = types.listOf types.externalPath;
      default = [ ];
      example = [ "/run/secrets/vllm.env" ];
      description = "Files with secrets for vLLM's container, such as VLLM_API_KEY.";
    };
  };

  config = lib.mkIf (cfg.enable && cfg.engine == "vllm" && profile ? arguments) {
    assertions = [
      {
        assertion = cfg.vllm.modelsLock == null || profile.revision != null || lockedRevision != null;
        message = ''
          services.loosh-miner.vllm.modelsLock has no entry for ${profile.repository}: run `loosh-miner models pull
          ${profile.model}` and take the file that it wrote.
        '';
      }
      {
        assertion = config.hardware.nvidia-container-toolkit.enable;
        message = ''
          services.loosh-miner.engine is vllm, which needs NVIDIA GPUs in its container: set
          services.loosh-miner.nvidia.enable, or hardware.nvidia-container-toolkit.enable.
        '';
      }
    ];

    warnings =
      lib.optional (cfg.vllm.digest == null) ''
        services.loosh-miner.vllm.digest is not set: the image is taken by its tag, v${version}, which others can move.
      ''
      ++ lib.optional (revision == null) ''
        services.loosh-miner.vllm.modelsLock is not set: the newest weights of ${profile.repository} are taken.
      '';

    users.users.vllm = {
      isSystemUser = true;
      group = "vllm";
      home = cache;
      description = "vLLM's weights";
    };
    users.groups.vllm = { };

    # The units below are named after it.
    virtualisation.oci-containers.backend = "podman";
    virtualisation.oci-containers.containers.vllm = {
      image =
        if cfg.vllm.digest != null then
          "${cfg.vllm.image}@${cfg.vllm.digest}"
        else
          "${cfg.vllm.image}:v${version}";
      cmd =
        profile.arguments
        ++ lib.optionals (revision != null && !builtins.elem "--revision" profile.arguments) [
          "--revision"
          revision
        ];
      inherit (profile) environment devices;
      inherit (cfg.vllm) environmentFiles;
      volumes = map (folder: "${folder}:${folder}") ([ cache ] ++ profile.folders);
      # A published port goes past NixOS's firewall.
      ports = [ "127.0.0.1:${toString profile.port}:${toString profile.port}" ];
      extraOptions = [
        (if profile.gpus > 1 then "--ipc=host" else "--shm-size=8g")
        "--cap-drop=all"
        # The cache belongs to the user who fetches the weights.
        "--cap-add=dac_override"
        "--security-opt=no-new-privileges"
        "--ulimit=memlock=-1"
      ];
    };

    systemd.services.podman-vllm = {
      after = [ generator ] ++ lib.optional cfg.vllm.pullWeights "loosh-miner-weights.service";
      requires = [ generator ];
      wants = lib.optional cfg.vllm.pullWeights "loosh-miner-weights.service";
      # Downloading the image, then loading and compiling, takes minutes; nixpkgs sets no limit to the start.
      startLimitIntervalSec = 0;
      serviceConfig.RestartSec = "30s";
    };
    systemd.services.loosh-miner.after = [ "podman-vllm.service" ];

    systemd.tmpfiles.settings.loosh-miner-vllm.${cache}.d = {
      user = "vllm";
      group = "vllm";
      mode = "0700";
    };

    systemd.services.loosh-miner-weights = lib.mkIf cfg.vllm.pullWeights {
      description = "Weights of ${profile.model} for vLLM";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      path = [
        cfg.package
        pkgs.jq
      ];
      environment = {
        inherit (profile.environment) HF_HOME;
        HOME = cache;
        LD_LIBRARY_PATH = "/run/opengl-driver/lib";
        LLM_BACKEND = "vllm";
        MODEL_PREFERENCE = toString (cfg.settings.MODEL_PREFERENCE or "speed");
      }
      // lib.optionalAttrs (profile.environment ? HF_HUB_CACHE) {
        HUGGINGFACE_HUB_CACHE = profile.environment.HF_HUB_CACHE;
      };
      # vLLM itself stays offline and asks for "main", unless a commit is given.
      script = ''
        ${lib.optionalString (cfg.vllm.modelsLock != null) "install -m 0600 ${cfg.vllm.modelsLock} models.lock.json"}
        revision=$(loosh-miner models pull ${lib.escapeShellArg profile.model} --backend vllm --lock models.lock.json --json | jq -er .revision)
        mkdir -p ${lib.escapeShellArg "${hub}/${repositoryFolder}/refs"}
        printf %s "$revision" > ${lib.escapeShellArg "${hub}/${repositoryFolder}/refs/main"}
      '';
      serviceConfig =
        removeAttrs unit.serviceConfig [
          "LoadCredential"
          "StateDirectory"
          "StateDirectoryMode"
        ]
        // unit.gpu
        // {
          Type = "oneshot";
          RemainAfterExit = true;
          User = "vllm";
          Group = "vllm";
          WorkingDirectory = cache;
          ReadWritePaths = [ cache ] ++ profile.folders;
          TimeoutStartSec = "infinity";
          Restart = "on-failure";
          RestartSec = "5min";
        };
    };
  };
}
