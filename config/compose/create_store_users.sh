# Run by the service minio-users, before the services that use the store start, with MinIO's root key and the passwords of
# .env in its environment: makes the bucket, and the users with their policies, or brings them up to date. Each service
# has a user of its own; see docs/security.md. MinIO's image has bash and `mc`, and little else.
set -euo pipefail

cd "$(dirname "$0")/.."
bucket=${NIGHTSHIFT_BUCKET:-}
while [ -z "$bucket" ] && read -r name value; do
  [ "$name" != bucket: ] || bucket=$value
done < "$NIGHTSHIFT_ENVIRONMENT.yaml"
mc mb --ignore-existing "store/$bucket"

document=$(mktemp)
for user in pipeline pages mlflow landing; do
  policy=$(< "compose/store_policies/$user.json")
  printf '%s\n' "${policy//BUCKET/$bucket}" > "$document"
  mc admin policy create store "$user" "$document"
  password=MINIO_${user^^}_PASSWORD
  # From standard input: arguments are in the list of processes. An existing user gets this password.
  printf '%s\n' "${!password}" | mc admin user add store "$user"
  mc admin policy attach store "$user" --user "$user"
done
