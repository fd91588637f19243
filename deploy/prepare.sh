#!/bin/sh
# Make what compose.yaml reads and git must not hold: gateway.env, accounts.toml and secrets/. Overwrites nothing.
set -eu
umask 077
cd "$(dirname "$0")"
for made in gateway.env accounts.toml secrets; do
    if [ -e "$made" ]; then
        echo "deploy/$made is there already; move it away to start anew (the databases keep their old passwords)" >&2
        exit 2
    fi
done

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
postgres=$(random) vault=$(random) valkey=$(random)

mkdir secrets
printf %s "$postgres" >secrets/postgres
printf %s "$vault" >secrets/vault
cat >secrets/valkey.acl <<EOF
user default off
user gateway on >$valkey ~* &* +@all -@admin -@dangerous +info +config|get
EOF
chmod 0644 secrets/* # the folder is closed to others; the servers read the files as users of their own

cat >gateway.env <<EOF
GATEWAY_DATABASE_URL=postgresql://gateway:$postgres@postgres:5432/gateway
GATEWAY_VAULT_URL=postgresql://gateway:$vault@vault:5432/vault
GATEWAY_REDIS_URL=redis://gateway:$valkey@valkey:6379/0
# Where providers reach this gateway, over TLS:
GATEWAY_PUBLIC_URL=https://reminders.example.com
# What accounts.toml refers to as env:NAME:
#TWILIO_AUTH_TOKEN=
EOF

cat >accounts.toml <<'EOF'
# One [[account]] for each configured adapter; docs/channels.md lists what each needs.
#[[account]]
#name = "sms-main"
#tenant = "acme"
#mode = "live"
#adapter = "twilio_sms"
#sender = "+14155550100"
#price = {amount = "0.0079", currency = "USD"}
#[account.credentials]
#account_sid = "env:TWILIO_ACCOUNT_SID"
#auth_token = "env:TWILIO_AUTH_TOKEN"
EOF
chmod 0644 accounts.toml # read inside the containers; it holds no secret
echo "deploy/gateway.env, deploy/accounts.toml and deploy/secrets/ are made; set GATEWAY_PUBLIC_URL and the accounts, then see deploy/README.md"
