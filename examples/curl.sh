#!/usr/bin/env bash
# Train with curl and nothing else: bash examples/curl.sh http://127.0.0.1:7860 out/demo/photos out/curl
# A server on this machine opens with the token in its home folder, one elsewhere with STUDIO_REMOTE_TOKEN.
set -euo pipefail
address=$1 photos=$2 out=$3
token=${STUDIO_REMOTE_TOKEN:-}
case $address in
http://127.0.0.1:* | http://localhost:*)
    kept=${STUDIO_HOME:-$HOME/.likeness-studio}/server-token
    [[ -n $token || ! -f $kept ]] || token=$(<"$kept")
    ;;
esac

# The header goes in by a file, since everybody on a machine sees the arguments of its programs.
send() { curl -sSf -H @<(printf 'Authorization: Bearer %s\n' "$token") "$@"; }

field() { sed -E "s/.*\"$1\": ?\"([^\"]*)\".*/\1/"; } # the last field of that name in one line of JSON

post() { # post VERB JSON: submit a job and print its id
    send -X POST "$address/v1/$1" -H "Content-Type: application/json" -d "$2" | field id
}

# The stream of a job's events ends with the job; a line of it begins with "data: ", the last one holds the whole job.
finished() { # finished JOB
    local state
    state=$(send -N "$address/v1/jobs/$1/events" | sed -n 's/^data: //p' | tail -n 1 | field state)
    [[ $state == completed ]] || { echo "$1 is ${state:-cut off}" >&2 && exit 1; }
}

# Photos are known by their SHA-256; what is there already is not kept twice, so that this may be repeated.
list=""
for photo in "$photos"/*.jpg; do
    sha256=$(sha256sum "$photo" | cut -d " " -f 1)
    send -X PUT "$address/uploads/$sha256" --data-binary "@$photo" >/dev/null
    list+=",{\"sha256\": \"$sha256\", \"name\": \"$(basename "$photo")\"}"
done

check=$(post check "{\"photos\": [${list:1}], \"subject\": \"Ada\", \"class_noun\": \"woman\"}")
finished "$check"
run=$(post train "{\"check\": \"$check\", \"seed\": 1}")
finished "$run"

mkdir -p "$out"
for file in pytorch_lora_weights.safetensors adapter.json; do
    send "$address/files/$run/adapter/$file" -o "$out/$file"
done
echo "$out"
