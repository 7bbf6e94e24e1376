#!/usr/bin/env bash
# build.sh BINARY FOLDER VERSION: the operator's image as an OCI archive, FOLDER/palisade-VERSION.tar, without a
# container engine. It has the binary that the tests run, the libraries that it is linked to, and the certificate
# authorities, all of this machine.
set -euo pipefail
(($# == 3)) || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
binary=$1 folder=$2 image=$2/oci:$3

authorities=/etc/ssl/certs/ca-certificates.crt
# umoci is the Open Container Initiative's own tool for images.
if ! command -v umoci >/dev/null || [[ ! -r $authorities ]]; then
    echo "installing umoci and ca-certificates" >&2
    ((EUID == 0)) || { echo "that needs root; or install these Debian packages yourself" >&2; exit 1; }
    apt-get update --quiet --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends umoci ca-certificates >&2
fi

rm -rf "$folder"
install -D --mode=755 "$binary" "$folder/root/usr/local/bin/palisade"
install -D --mode=644 "$authorities" "$folder/root$authorities"
for library in $(ldd "$binary" | grep --only-matching '/[^ ]*'); do
    install -D --mode=755 "$library" "$folder/root$library"
done

umoci init --layout "$folder/oci"
umoci new --image "$image"
umoci insert --rootless --image "$image" "$folder/root" /
# On the path that runtimes search, for who runs `palisade open` in a pod.
umoci config --image "$image" --config.entrypoint /usr/local/bin/palisade --config.user 65532:65532 --author Palisade
tar --create --file "$folder/palisade-$3.tar" --directory "$folder/oci" .
echo "$folder/palisade-$3.tar"
