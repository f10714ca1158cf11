# What is below the directory $1: kinds, names, owners, modes, times, sizes, contents. One line a fact, in order.
# A whiteout has a name and a number, nothing else; a directory's size is the filesystem's business.
export TZ=UTC LC_ALL=C
cd "$1" || exit 1
{
    find . ! -type c ! -type d ! -type f -exec stat -c '%N|%F|%a|%u|%g|%y|%h' {} +
    find . -type f -exec stat -c '%n|%F|%a|%u|%g|%y|%s|%h' {} +
    find . -type d -exec stat -c '%n|%F|%a|%u|%g|%y' {} +
    find . -type c -exec stat -c '%n|%F|%t:%T' {} +
    find . -type f -exec sha256sum {} +
} | sort
