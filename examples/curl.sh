#!/usr/bin/env bash
# Train with curl and nothing else: bash examples/curl.sh http://127.0.0.1:7860 out/demo/photos out/curl
set -euo pipefail
address=$1 photos=$2 out=$3

field() { sed -E "s/.*\"$1\": ?\"([^\"]*)\".*/\1/"; } # the last field of that name in one line of JSON

# Endpoints answer in two steps: an event id, then a stream whose last line is the answer.
call() { # call NAME JSON
    local event
    event=$(curl -sSf -X POST "$address/gradio_api/call/v2/$1" -H "Content-Type: application/json" -d "$2" | field event_id)
    curl -sSf "$address/gradio_api/call/$1/$event" | sed -n 's/^data: //p' | tail -n 1
}

finished() { # finished JOB
    local state
    while state=$(call job "{\"job_id\": \"$1\", \"after\": 1000000, \"files\": false}" | field state); do
        case $state in
        completed) return ;;
        stalled | cancelled) echo "$1 is $state" >&2 && exit 1 ;;
        esac
        sleep 1
    done
}

# Photos are known by their SHA-256; what is there already is not kept twice, so that this may be repeated.
list=""
for photo in "$photos"/*.jpg; do
    sha256=$(sha256sum "$photo" | cut -d " " -f 1)
    curl -sSf -X PUT "$address/uploads/$sha256" --data-binary "@$photo" >/dev/null
    list+=",{\"sha256\": \"$sha256\", \"name\": \"$(basename "$photo")\"}"
done

check=$(curl -sSf -X POST "$address/checks" -H "Content-Type: application/json" \
    -d "{\"photos\": [${list:1}], \"subject\": \"Ada\", \"class_noun\": \"woman\"}" | field id)
finished "$check"
run=$(call train "{\"check_job\": \"$check\", \"settings\": {\"seed\": 1}}" | field id)
finished "$run"

mkdir -p "$out"
for file in pytorch_lora_weights.safetensors adapter.json; do
    curl -sSf "$address/files/$run/adapter/$file" -o "$out/$file"
done
echo "$out"
