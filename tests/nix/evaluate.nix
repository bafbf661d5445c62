# A module system in small, over ./lib.nix: enough to say which options our modules declare and what they make of an
# operator's configuration. Everything that nixpkgs declares is taken as it is given.
{
  # Nix text of the operator's configuration: a file.
  configuration,
  # "options" lists what is declared, "config" gives what comes of the configuration.
  what,
}:
let
  lib = import ./lib.nix;
  inherit (builtins)
    attrNames
    concatLists
    filter
    foldl'
    head
    isAttrs
    isFunction
    isList
    map
    tail
    ;

  package = name: {
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
    meta.mainProgram = name;
    type = "derivation";
  };
  packages = {
    loosh-miner = package "loosh-miner";
    loosh-miner-cuda = package "loosh-miner" // {
      outPath = "/nix/store/00000000000000000000000000000000-loosh-miner-cuda";
    };
  };
  pkgs = {
    stdenv.hostPlatform.system = "x86_64-linux";
    jq = package "jq";
    makeWrapper = package "makeWrapper";
    nftables = package "nft";
    ollama = package "ollama";
    ollama-cuda = package "ollama-cuda";
    runCommand = name: _: script: package name // { inherit script; };
  };

  arguments = {
    inherit config lib pkgs;
    modulesPath = "/nixpkgs/nixos/modules";
  };

  # --- modules: everything that is imported, as { options, config } -------------------------------------------------
  load =
    module:
    let
      value =
        if isFunction module then
          module arguments
        else if isAttrs module then
          module
        else
          let
            imported = import module;
          in
          if isFunction imported then imported arguments else imported;
      whole = value ? options || value ? config;
    in
    concatLists (map load (filter (each: !outside each) (value.imports or [ ])))
    ++ [
      {
        options = value.options or { };
        config =
          if whole then
            value.config or { }
          else
            removeAttrs value [
              "imports"
              "_file"
            ];
      }
    ];
  # nixpkgs' own modules can't be had here.
  outside = module: builtins.isString module && builtins.match "/nixpkgs/.*" module != null;

  flake = {
    packages.x86_64-linux = packages;
  };
  modules = concatLists (
    map load [
      (import ../../nix/modules/default.nix { self = flake; })
      configuration
      nixpkgs
    ]
  );

  # --- options: their declarations by path ---------------------------------------------------------------------------
  declared = foldl' lib.recursiveUpdate { } (map (module: module.options) modules);
  paths =
    prefix: tree:
    if tree._type or null == "option" then
      [
        {
          path = prefix;
          option = tree;
        }
      ]
    else
      concatLists (map (name: paths (prefix ++ [ name ]) tree.${name}) (attrNames tree));
  options = paths [ ] declared;

  # --- definitions: what the modules say of a path, with its conditions and priorities -------------------------------
  # A value is not looked at before the conditions around it hold: it may make no sense without them.
  look =
    path: definition:
    if path == [ ] then
      [
        {
          holds = true;
          priority = 100;
          value = definition;
        }
      ]
    else if definition._type or null == "if" then
      map (found: found // { holds = definition.condition && found.holds; }) (look path definition.content)
    else if definition._type or null == "merge" then
      concatLists (map (look path) definition.contents)
    else if definition._type or null == "override" then
      map (found: found // { inherit (definition) priority; }) (look path definition.content)
    else if isAttrs definition && definition ? ${head path} then
      look (tail path) definition.${head path}
    else
      [ ];
  unwrap =
    found:
    if found.value._type or null == "if" then
      lib.optionals found.value.condition (unwrap (found // { value = found.value.content; }))
    else if found.value._type or null == "merge" then
      lib.concatMap (content: unwrap (found // { value = content; })) found.value.contents
    else if found.value._type or null == "override" then
      unwrap {
        inherit (found.value) priority;
        value = found.value.content;
      }
    else
      [ found ];
  discharge = found: lib.concatMap unwrap (filter (each: each.holds) found);
  definitions = path: discharge (lib.concatMap (module: look path module.config) modules);

  # Sets member by member, lists one after the other; anything else must be said alike by all who say it.
  plain = value: isAttrs value && !(value ? _type) && value.type or null != "derivation";
  inner =
    name: found:
    discharge (
      lib.concatMap (
        each: map (deep: deep // { priority = if deep.priority == 100 then each.priority else deep.priority; }) (
          look [ name ] each.value
        )
      ) found
    );
  join =
    path: found:
    let
      least = foldl' (least: each: if each.priority < least then each.priority else least) 10000 found;
      values = map (each: each.value) (filter (each: each.priority == least) found);
      name = lib.concatStringsSep "." path;
    in
    if builtins.all (each: plain each.value) found then
      builtins.listToAttrs (
        lib.concatMap (
          member:
          let
            those = inner member found;
          in
          lib.optional (those != [ ]) {
            name = member;
            value = join (path ++ [ member ]) those;
          }
        ) (attrNames (foldl' (all: each: all // each.value) { } found))
      )
    else if builtins.all isList values then
      concatLists values
    else if builtins.all (value: value == head values) values then
      head values
    else
      throw "conflicting definitions of ${name}: ${builtins.toJSON values}";
  at = path: join path (definitions path);

  # --- values ----------------------------------------------------------------------------------------------------------
  valueOf =
    { path, option }:
    let
      found = definitions path;
      name = lib.concatStringsSep "." path;
      value =
        if found != [ ] && option.default or null == { } then
          option.default // join path found
        else if found != [ ] then
          join path found
        else
          option.default or (throw "${name} has no value");
    in
    if option.type.check value then
      value
    else
      throw "${name} is no ${option.type.description}: ${builtins.toJSON value}";
  ours = foldl' (tree: each: lib.recursiveUpdate tree (nest each.path (valueOf each))) { } options;
  nest = path: value: if path == [ ] then value else { ${head path} = nest (tail path) value; };

  # What nixpkgs' own modules would say where ours ask them.
  nixpkgs = {
    hardware.nvidia-container-toolkit.enable = lib.override 1500 false;
    networking = {
      hostName = lib.override 1500 "nixos";
      firewall.enable = lib.override 1500 true;
    };
    services.prometheus.exporters = {
      node.port = lib.override 1500 9100;
      nvidia-gpu.port = lib.override 1500 9835;
    };
    systemd.package = lib.override 1500 (package "systemd");
  };
  config = {
    hardware.nvidia-container-toolkit.enable = at [
      "hardware"
      "nvidia-container-toolkit"
      "enable"
    ];
    networking = {
      hostName = at [
        "networking"
        "hostName"
      ];
      firewall.enable = at [
        "networking"
        "firewall"
        "enable"
      ];
    };
    services = {
      inherit (ours.services) loosh-miner;
      prometheus.exporters = {
        node.port = at [
          "services"
          "prometheus"
          "exporters"
          "node"
          "port"
        ];
        nvidia-gpu.port = at [
          "services"
          "prometheus"
          "exporters"
          "nvidia-gpu"
          "port"
        ];
      };
    };
    systemd.package = at [
      "systemd"
      "package"
    ];
  };

  # A list that nobody may have said anything of.
  said = name: if definitions [ name ] == [ ] then [ ] else at [ name ];
  shown = value: value.text or value;
in
{
  options = map (
    { path, option }:
    {
      name = lib.concatStringsSep "." path;
      type = option.type.description or null;
      default = if option ? defaultText then shown option.defaultText else option.default or null;
      required = !(option ? default || option ? defaultText);
      defaultCode = option ? defaultText;
      exampleCode = option.example._type or null == "literalExpression";
      example = shown (option.example or null);
      description = option.description or null;
    }
  ) options;

  config = {
    failed = map (each: each.message) (filter (each: !each.assertion) (said "assertions"));
    warnings = said "warnings";
    miner = ours.services.loosh-miner;
    # How the commands are made that everybody on the machine has.
    commands =
      if definitions [ "environment" ] == [ ] then
        [ ]
      else
        map (each: each.script) (filter (each: each ? script) (at [ "environment" "systemPackages" ]));
    # Everything that is given to nixpkgs' modules.
    given = removeAttrs (join [ ] (definitions [ ])) [
      "assertions"
      "warnings"
    ];
  };
}
.${what}
