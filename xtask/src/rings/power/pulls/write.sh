# Pulls, removals and collections, one after the other and two at a time, each marked when it begins and when it has
# returned 0. BASE, APP, APP2, WEB, TOOL are the images' digests; app:v1 is APP first, and APP2 from some moment on.
mkdir -p /disk && mount /dev/vda /disk || exit 1
sx="sextant --data-dir /disk/data --run-dir /run/sextant"
sleep 100000 | registry /registry 127.0.0.1:5000 >/dev/null &
tag() { printf %s "$2" >"/registry/repositories/$1/_tags/v1"; }
tag app $APP
while ! wget -q -O /dev/null http://127.0.0.1:5000/v2/; do sleep 0.1; done 2>/dev/null

pull() { # NAME DIGEST
    mark begin pull $1:v1 $2
    $sx pull -q 127.0.0.1:5000/$1:v1 >/dev/null || { echo "cannot pull $1"; exit 1; }
    mark ack pull $1:v1 $2
}
killed() { # NAME DIGEST SECONDS: so long after the first byte came, or at its end
    mark begin pull $1:v1 $2
    $sx pull -q 127.0.0.1:5000/$1:v1 >/dev/null 2>&1 &
    killed=$!
    until [ -n "$(find /disk/data/images/ingest/blobs -type f -size +0)" ]; do kill -0 $killed 2>/dev/null || break; done
    sleep $3
    kill -9 $killed 2>/dev/null
    wait $killed 2>/dev/null
}
rmi() {
    mark begin rmi $1:v1
    $sx rmi 127.0.0.1:5000/$1:v1 >/dev/null || { echo "cannot remove $1"; exit 1; }
    mark ack rmi $1:v1
}

# Of a download that another's sync made durable, the rest is fetched after the next start.
pull base $BASE
pull app $APP
killed web $WEB 0
killed web $WEB 0.2
pull web $WEB
rmi app
pull tool $TOOL
killed app $APP 0
pull app $APP
tag app $APP2
pull app $APP2
rmi base
rmi web
$sx prune -f >/dev/null || exit 1
pull base $BASE
rmi tool
pull tool $TOOL &
tool=$!
killed web $WEB 0.1
wait $tool || exit 1
pull web $WEB
rmi app
rmi base
rmi web
pull web $WEB &
web=$!
pull app $APP2 || exit 1
wait $web || exit 1
rmi app
killed app $APP2 0.05
pull app $APP2
pull base $BASE
