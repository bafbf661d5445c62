# Settings as the environment of a unit: names to texts. What is null is left out, so that the app's default holds.
{ lib }:
let
  text =
    value:
    if builtins.isBool value then
      lib.boolToString value
    else if builtins.isList value then
      lib.concatMapStringsSep "," text value
    else
      toString value;
in
{
  # For programs that a person starts.
  plain = settings: lib.mapAttrs (_: text) (lib.filterAttrs (_: value: value != null) settings);

  # For systemd, which reads `%` in Environment= as the beginning of a specifier.
  unit =
    settings:
    lib.mapAttrs (_: value: builtins.replaceStrings [ "%" ] [ "%%" ] (text value)) (
      lib.filterAttrs (_: value: value != null) settings
    );
}
