// An OpenID provider on loopback for tests. Its settings are one JSON object in a file: port, jwks, client, people
// (account -> claims). Its own development pages ask for a name and take any password.
import { readFileSync } from 'node:fs';
import Provider from 'oidc-provider';

const given = JSON.parse(readFileSync(process.argv[2], 'utf-8'));
const issuer = `http://127.0.0.1:${given.port}`;
const provider = new Provider(issuer, {
  clients: [given.client],
  jwks: given.jwks,
  cookies: { keys: ['for tests alone'] },
  conformIdTokenClaims: false, // the claims of a scope stand in the ID token, as many providers do
  claims: { openid: ['sub'], profile: ['name', 'groups', 'org'] },
  pkce: { required: () => true },
  ttl: { IdToken: 300, AccessToken: 300, AuthorizationCode: 60, Session: 600, Interaction: 600, Grant: 600 },
  features: { rpInitiatedLogout: { enabled: true } },
  findAccount: (_, id) => ({ accountId: id, claims: async () => ({ sub: id, ...given.people[id] }) }),
});
provider.listen(given.port, '127.0.0.1');
