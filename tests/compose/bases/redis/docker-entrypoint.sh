#!/bin/sh
# As in Docker's image: the server gives up root, any other command is run as it is.
set -e
if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then
    chown -R redis:redis .
    exec setpriv --reuid=redis --regid=redis --clear-groups "$@" --bind '* -::*' --protected-mode no
fi
exec "$@"
