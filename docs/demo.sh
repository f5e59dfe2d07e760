#!/usr/bin/env bash
# The main job, end to end: real crystals, two real foundation models, one searchable space.
# `make demo` runs it; so can you: PLATONIC_STORE=my.store bash docs/demo.sh OUTPUT_FOLDER
set -euo pipefail
out=${1:?where to put the pictures}
mkdir -p "$out"

run() {
    printf '\n\033[1m$ platonic-store'
    for word in "$@"; do
        case $word in *' '*) printf ' "%s"' "$word" ;; *) printf ' %s' "$word" ;; esac
    done
    printf '\033[0m\n'
    platonic-store "$@"
}

started=$SECONDS
command=$(command -v platonic-store)
echo "288 AFLOW prototype crystals, embedded by SevenNet-0 and CHGNet 0.3.0:"
run ingest builtin:aflow-prototypes --model sevennet-0 --model chgnet-0.3.0
echo -e "\nAnchor atoms place both models in one shared space:"
run anchors select
run project
echo -e "\nWhat is most similar to spinel according to SevenNet-0?"
run similar Spinel --model sevennet-0 -k 5
echo -e "\nThe same with SevenNet-0's spinel and CHGNet's answers:"
run similar Spinel --model sevennet-0 --across chgnet-0.3.0 -k 5
echo -e "\nThe same in SQL, with a condition:"
run sql "SELECT rank, distance, structure_id, formula, spacegroup FROM similar_structures('Spinel', model := 'sevennet-0', across := 'chgnet-0.3.0', k := 5) WHERE list_contains(elements, 'O')"
echo -e "\nHow alike are the two models, beside what chance would give?"
run align sevennet-0 chgnet-0.3.0
echo -e "\nThe least typical crystals of this store according to SevenNet-0:"
run score
run outliers --model sevennet-0 -k 5
echo -e "\nThe whole study as one report:"
run report --out "$out/report.html"
echo -e "\nA map of all crystals and atoms, and the explorer as one page:"
run map
run export --to "$out/explorer.html"
run doctor
cat <<END

Done in $((SECONDS - started)) s. Open $out/explorer.html in a browser, and $out/report.html.
To drop crystals of your own on the page, serve it:

    ${command#"$PWD"/} serve $PLATONIC_STORE
END
