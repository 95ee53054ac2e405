"""Writes portal.csv and gateway.csv with known differences: reconcile_gen.py DIR [ROWS] [SEED].

Of ROWS rows a side, 0.5 % each: amounts that differ, paid but not recorded, recorded but not paid, second payment of a
dossier; and 0.5 % pending at the portal, which is no difference. Prints what reconcile must find, as JSON."""
import json, os, random, sys

directory = sys.argv[1]
rows = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
share = rows // 200
rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
os.makedirs(directory, exist_ok=True)


def time(second):
    second %= 28 * 86_400
    return f"2026-01-{1 + second // 86_400:02}T{second // 3_600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def reference(n):
    return f"GD{n * 2_654_435_761 % (1 << 32):010}{n % 89:02}"


portal, gateway = [], []
both = rows - 2 * share
for n in range(both + 3 * share):
    dossier, amount = f"H-{n:09}", rng.randrange(1_000, 900_000)
    ours = f"{dossier},{reference(n)},{amount},%s,{time(n * 7 + 30)}"
    theirs = f"{reference(n)},{dossier},%d,settled,{time(n * 7)}"
    if n < both:
        portal.append(ours % "paid")
        gateway.append(theirs % (amount + 1 if n < share else amount))
        if share <= n < 2 * share:
            gateway.append(f"GDX{n:011},{dossier},{amount},settled,{time(n * 7 + 90)}")
    elif n < both + share:
        portal.append(ours % "paid")
    elif n < both + 2 * share:
        portal.append(ours % "pending")
    else:
        gateway.append(theirs % amount)
for name, header, lines in [
    ("portal", "dossier_id,txn_ref,amount,status,recorded_at", portal),
    ("gateway", "txn_ref,dossier_id,amount,status,paid_at", gateway),
]:
    rng.shuffle(lines)
    with open(f"{directory}/{name}.csv", "w") as file:
        file.write(header + "\n" + "\n".join(lines) + "\n")
kinds = ["paid_twice", "amount_differs", "paid_not_recorded", "recorded_not_paid"]
print(json.dumps({"matched": both - share, "waiting": share, **dict.fromkeys(kinds, share)}))
