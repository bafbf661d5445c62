# Which engine writes the answers, and the profile that says how it is started.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) types;
  cfg = config.services.loosh-miner;
  profiles = lib.importJSON ../profiles.json;
  chosen = profiles.${cfg.profile}.${cfg.engine} or { reasons = [ ]; };
  lacking = builtins.filter (name: !(cfg.engineProfile ? ${name})) (
    builtins.attrNames profiles.a100_80gb.vllm
  );
in
{
  options.services.loosh-miner = {
    engine = lib.mkOption {
      type = types.enum [
        "vllm"
        "ollama"
        "llamacpp"
        "external"
      ];
      default = "llamacpp";
      example = "vllm";
      description = ''
        What writes the answers: `vllm` in its container on this machine's GPUs, `ollama`, `llamacpp` in the miner's own
        process (without a profile it runs the embedded model, which earns nothing), or `external`, an engine elsewhere.
      '';
    };

    profile = lib.mkOption {
      type = types.nullOr (types.enum (builtins.attrNames profiles));
      default = null;
      example = "a100_80gb";
      description = ''
        Tier of the machine's GPU; model, context and flags are then those that the miner chooses for it. They are in
        `nix/profiles.json`, which the miner's own code writes, for one card of the tier.
      '';
    };

    engineProfile = lib.mkOption {
      type = types.nullOr (types.attrsOf types.anything);
      default = if cfg.profile == null || chosen ? reasons then null else chosen;
      defaultText = lib.literalExpression "what `nix/profiles.json` has for `profile` and `engine`";
      example = lib.literalExpression "{ engine = \"vllm\"; model = \"qwen2.5-32b-instruct\"; context = 32768; }";
      description = ''
        The engine profile as data. `loosh-miner engine render --format nix > engine.nix` writes it for the very machine
        at hand, several GPUs included: import that file instead of naming a {option}`services.loosh-miner.profile`.
      '';
    };

    llamacpp.cuda = lib.mkOption {
      type = types.bool;
      default = false;
      description = "Let llama.cpp in the miner's process compute on an NVIDIA GPU: another package, built with CUDA.";
    };

    external = {
      backend = lib.mkOption {
        type = types.enum [
          "vllm"
          "ollama"
        ];
        default = "vllm";
        description = "What the engine elsewhere is: `vllm` for anything that speaks OpenAI's API.";
      };

      addresses = lib.mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "http://10.0.0.2:8001/v1" ];
        description = "Where it listens, vLLM's with /v1. The first healthy one serves, the others stand by.";
      };
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      # mkDefault: the operator's own word in `settings` wins.
      (lib.mkIf (cfg.engineProfile != null && cfg.engine != "external") {
        services.loosh-miner.settings = lib.mapAttrs (_: lib.mkDefault) (cfg.engineProfile.settings or { });
      })
      (lib.mkIf (cfg.engineProfile == null || cfg.engine == "external") {
        services.loosh-miner.settings.LLM_BACKEND = lib.mkDefault (
          if cfg.engine == "external" then cfg.external.backend else cfg.engine
        );
      })
      (lib.mkIf (cfg.engine == "external") {
        services.loosh-miner.settings.${
          if cfg.external.backend == "vllm" then "VLLM_API_BASE" else "OLLAMA_BASE_URL"
        } =
          lib.mkDefault cfg.external.addresses;
      })
      {
        assertions = [
          {
            assertion = cfg.engineProfile == null || lacking == [ ];
            message = ''
              services.loosh-miner.engineProfile lacks ${lib.concatStringsSep ", " lacking}: take it whole, as
              `loosh-miner engine render --format nix` writes it.
            '';
          }
          {
            assertion = cfg.profile == null || !(chosen ? reasons) || cfg.engine == "external";
            message = ''
              services.loosh-miner.profile: nothing fits ${toString cfg.profile} with engine ${cfg.engine}. ${
                lib.concatStringsSep "; " (chosen.reasons or [ ])
              }
            '';
          }
          {
            assertion =
              cfg.engineProfile == null
              || cfg.engineProfile.engine or null == cfg.engine
              || cfg.engine == "external";
            message = ''
              services.loosh-miner.engineProfile is for ${cfg.engineProfile.engine or "no engine"}, and
              services.loosh-miner.engine is ${cfg.engine}: render the profile with that backend, or change the engine.
            '';
          }
          {
            # llama.cpp's embedded model is for trying out, and says so itself.
            assertion =
              cfg.engineProfile == null
              || cfg.engineProfile.engine or null == "llamacpp"
              || cfg.engineProfile.context or 0 >= 16384;
            message = ''
              services.loosh-miner.engineProfile: its context is under the 16384 tokens that validators' challenges take.
            '';
          }
          {
            assertion =
              !(builtins.elem cfg.engine [
                "vllm"
                "ollama"
              ])
              || cfg.engineProfile != null;
            message = ''
              services.loosh-miner.engine is ${cfg.engine}: name services.loosh-miner.profile, or import what
              `loosh-miner engine render --format nix` writes.
            '';
          }
          {
            assertion =
              cfg.engine != "vllm"
              || cfg.engineProfile == null
              || (cfg.settings.MAX_CONCURRENT_REQUESTS or 10) <= cfg.engineProfile.parallel or 0;
            message = ''
              services.loosh-miner.settings.MAX_CONCURRENT_REQUESTS is more than the engine profile's
              ${toString (cfg.engineProfile.parallel or 0)} sequences: lower it, or render the profile with more.
            '';
          }
          {
            assertion = cfg.engine != "external" || cfg.external.addresses != [ ];
            message = "services.loosh-miner.external.addresses: where is the engine?";
          }
          {
            assertion = !cfg.llamacpp.cuda || cfg.engine == "llamacpp";
            message = "services.loosh-miner.llamacpp.cuda: is for engine llamacpp, not ${cfg.engine}.";
          }
        ];
      }
    ]
  );
}
