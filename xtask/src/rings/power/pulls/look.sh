# Looks at the store on the disk $1: by the product's own eyes (images, verify), and by busybox's against /expect.
# Then everything is pulled again, and collected: before that on every other disk, after it on the rest.
name=${1##*/}
disk=/disks/$name
images=$disk/data/images
mkdir -p $disk && mount $1 $disk || { echo "damaged: the filesystem does not mount"; exit 0; }
sx() { sextant --data-dir $disk/data --run-dir /run/$name "$@"; }
up() { wget -q -O /dev/null http://127.0.0.1:5000/v2/ 2>/dev/null; }
up || { sleep 100000 | registry /registry 127.0.0.1:5000 >/dev/null & }
while ! up; do sleep 0.1; done
HARM
echo "unfinished: $(ls $images/ingest/blobs 2>/dev/null | wc -l) downloads, $(ls -d $images/ingest/*/layer-* 2>/dev/null | wc -l) layers"

look() { # PHASE
    echo "phase $1"
    rm -rf /tmp/seen; mkdir -p /tmp/seen
    sx images --digests >/tmp/list 2>&1 || sed 's/^/damaged: images: /' /tmp/list
    sx verify >/tmp/said 2>&1 || sed 's/^/damaged: verify: /' /tmp/said
    awk 'NR > 1 { sub(".*/", "", $1); print $1 ":" $2, $3 }' /tmp/list >/tmp/names
    while read -r image digest; do
        echo "listed $image $digest"
        whole $image ${digest#sha256:}
    done </tmp/names
    find $images/ingest -mindepth 1 -maxdepth 2 ! -path $images/ingest/blobs ! -path $images/ingest/layers \
        ! -name '*.partial' ! -name '*.lock' | sed "s,^$images/,left: ,"
}
whole() { # NAME HEX
    expect=/expect/$2
    [ -d $expect ] || { echo "damaged: $1 is $2, which was never pushed"; return; }
    fault=
    for blob in $(cat $expect/blobs); do
        [ "$(sha256sum $images/blobs/sha256/$blob 2>/dev/null | cut -d' ' -f1)" = $blob ] || fault="blob $blob"
    done
    for layer in $(cat $expect/layers); do
        [ -e /tmp/seen/$layer ] || sh /list.sh $images/layers/sha256/$layer/fs >/tmp/seen/$layer 2>&1
        cmp -s /tmp/seen/$layer /expect/layers/$layer ||
            fault="layer $layer: $(diff /tmp/seen/$layer /expect/layers/$layer | grep '^[-+][^-+]' | head -n 3 | tr '\n' ' ')"
    done
    if [ -z "$fault" ]; then echo "whole $1 sha256:$2"; else echo "damaged: $1: $fault"; fi
}
collect() { # PHASE
    sx prune -f >/tmp/said 2>&1 || sed 's/^/damaged: prune: /' /tmp/said
    echo "phase $1"
    (cd $images && find . -mindepth 1 -maxdepth 3 ! -path './layers/*/*/*') | sed -n 's,^\./,kept ,p'
}

look cut
case $name in vd[bdfhj]) collect pruned ;; esac
for image in base app tool web; do
    sx pull -q 127.0.0.1:5000/$image:v1 >/tmp/said 2>&1 || sed "s/^/damaged: pull $image: /" /tmp/said
done
look pulled
collect collected
umount $disk || exit 1
