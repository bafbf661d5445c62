# The part of nixpkgs' `lib` that the modules use, written anew and small: enough to evaluate them where nixpkgs can't be
# had. What is missing here fails loudly; what nixpkgs really declares is checked where Nix has a network.
let
  inherit (builtins)
    all
    any
    attrNames
    concatLists
    elem
    filter
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isString
    length
    listToAttrs
    map
    match
    ;

  type = description: check: { inherit description check; };
  storeName = path: match "/nix/store/.*" path != null;

  types = rec {
    anything = type "anything" (_: true);
    bool = type "boolean" isBool;
    int = type "signed integer" isInt;
    float = type "floating point number" isFloat;
    str = type "string" isString;
    port = type "16 bit unsigned integer; between 0 and 65535 (both inclusive)" (
      value: isInt value && value >= 0 && value <= 65535
    );
    path = type "absolute path" (value: match "/.*" (toString value) != null);
    externalPath = type "absolute path not in the Nix store" (
      value: isString value && match "/.*" value != null && !storeName value
    );
    package = type "package" (value: isAttrs value && value ? outPath);
    strMatching =
      pattern: type "string matching the pattern ${pattern}" (value: isString value && match pattern value != null);
    enum =
      values:
      type "one of ${builtins.concatStringsSep ", " (map builtins.toJSON values)}" (value: elem value values);
    nullOr = inner: type "null or ${inner.description}" (value: value == null || inner.check value);
    listOf = inner: type "list of ${inner.description}" (value: isList value && all inner.check value);
    attrsOf =
      inner:
      type "attribute set of ${inner.description}" (
        value: isAttrs value && all (name: inner.check value.${name}) (attrNames value)
      );
    oneOf =
      inners:
      type (builtins.concatStringsSep " or " (map (inner: inner.description) inners)) (
        value: any (inner: inner.check value) inners
      );
  };
in
rec {
  inherit types;

  mkOption = declared: declared // { _type = "option"; };
  mkEnableOption =
    what:
    mkOption {
      type = types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${what}.";
    };
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  override = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkDefault = override 1000;
  mkForce = override 50;
  # Order among lines of text is not looked at here.
  mkBefore = content: content;
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };

  boolToString = value: if value then "true" else "false";
  concatMapStringsSep =
    separator: f: list:
    builtins.concatStringsSep separator (map f list);
  concatMap = f: list: concatLists (map f list);
  inherit (builtins) concatLists concatStringsSep;
  escapeShellArg = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
  filterAttrs =
    keep: set:
    listToAttrs (
      map (name: {
        inherit name;
        value = set.${name};
      }) (filter (name: keep name set.${name}) (attrNames set))
    );
  getExe = package: "${package}/bin/${package.meta.mainProgram}";
  hasSuffix =
    suffix: text:
    let
      from = builtins.stringLength text - builtins.stringLength suffix;
    in
    from >= 0 && builtins.substring from (-1) text == suffix;
  importJSON = path: builtins.fromJSON (builtins.readFile path);
  mapAttrs = builtins.mapAttrs;
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: set: if condition then set else { };
  optionalString = condition: text: if condition then text else "";
  recursiveUpdate =
    left: right:
    left
    // builtins.mapAttrs (
      name: value: if isAttrs value && isAttrs (left.${name} or null) then recursiveUpdate left.${name} value else value
    ) right;
  count = length;
}
