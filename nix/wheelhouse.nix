# The wheels of requirements.lock, downloaded as they are: each by its own hash, and all of them by one.
# `just nix-write` computes that one anew when the lock has changed.
{
  lib,
  stdenvNoCC,
  cacert,
  python312,
}:
stdenvNoCC.mkDerivation {
  name = "loosh-miner-wheelhouse";
  nativeBuildInputs = [
    cacert
    (python312.withPackages (python: [ python.pip ]))
  ];
  buildCommand = ''
    export HOME=$TMPDIR
    export SSL_CERT_FILE=${cacert}/etc/ssl/certs/ca-bundle.crt PIP_CERT=${cacert}/etc/ssl/certs/ca-bundle.crt
    mkdir -p $out
    PYTHON=python3.12 sh ${./fetch-wheels.sh} ${../requirements.lock} $out
  '';
  # A company's proxy or mirror: the hashes hold whoever the files come from.
  impureEnvVars = lib.fetchers.proxyImpureEnvVars ++ [ "PIP_INDEX_URL" ];
  outputHashMode = "recursive";
  outputHashAlgo = "sha256";
  outputHash = "sha256-UIJxTa9Q1KpyRu23gtuQwrrt42IQ3Jxco1aYVb94Lbg=";
}
