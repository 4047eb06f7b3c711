// Runs once, on an empty volume. Creates a user who can read and write one database and nothing else.
const name = process.env.MONGO_DATABASE;
db.getSiblingDB(name).createUser({
  user: process.env.MONGO_USER,
  pwd: process.env.MONGO_PASSWORD,
  roles: [{ role: "readWrite", db: name }],
});
