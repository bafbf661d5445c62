# llama.cpp's bindings, which are published as source only; version and hash as requirements.lock has them.
{ fetchPypi }:
let
  entry = builtins.elemAt (builtins.split "\nllama-cpp-python==" (builtins.readFile ../requirements.lock)) 2;
  # The first lines only: matching the whole file would exhaust the stack.
  found = builtins.match "([0-9.]+)[^a-z]*hash=sha256:([0-9a-f]{64}).*" (builtins.substring 0 120 entry);
in
fetchPypi {
  pname = "llama_cpp_python";
  version = builtins.elemAt found 0;
  sha256 = builtins.elemAt found 1;
}
