import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { EnvironmentFailedError, InvalidConfigurationError } from '../contracts/index.ts';
import type { SecretReference } from './reference.ts';

const PREFIX = 'sealed:v1:';
const KEY_BYTES = 32;
const KEY_ID_BYTES = 4;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEADER_BYTES = KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES;

/**
 * Encrypts a secret with AES-256-GCM, so that it can be stored in a config.
 *
 * The bytes are, in this order: an id of the key, which tells a wrong key from a changed secret; the nonce; the tag; the
 * ciphertext. The prefix and the id are authenticated as well.
 *
 * @param secretKey 32 bytes as base64 or as hexadecimal digits
 * @throws {InvalidConfigurationError} when the key is not that
 */
export function sealSecret(clear: string, secretKey: string): SecretReference {
  const key = parseSecretKey(secretKey);
  const keyId = keyIdOf(key);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(additionalDataFor(keyId));
  const ciphertext = Buffer.concat([cipher.update(clear, 'utf8'), cipher.final()]);
  return PREFIX + Buffer.concat([keyId, nonce, cipher.getAuthTag(), ciphertext]).toString('base64url');
}

/**
 * Decrypts what {@link sealSecret} sealed.
 * @throws {EnvironmentFailedError} `secret_unavailable`: sealed under another key, or changed since
 */
export function unsealSecret(sealed: SecretReference, key: Buffer): string {
  const encoded = sealed.slice(PREFIX.length);
  const bytes = Buffer.from(encoded, 'base64url');
  // Node ignores characters that are not base64url; only the spelling that sealing produces is accepted.
  if (bytes.length <= HEADER_BYTES || bytes.toString('base64url') !== encoded) {
    throw unavailable('it is not as it was sealed: part of it is missing, or was added; seal the secret again');
  }
  const keyId = bytes.subarray(0, KEY_ID_BYTES);
  if (!keyId.equals(keyIdOf(key))) {
    throw unavailable(
      'it was sealed under another LESSOR_SECRET_KEY than the one set here; set that one, or seal again',
    );
  }
  const nonce = bytes.subarray(KEY_ID_BYTES, KEY_ID_BYTES + NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(additionalDataFor(keyId));
  decipher.setAuthTag(bytes.subarray(HEADER_BYTES - TAG_BYTES, HEADER_BYTES));
  try {
    return Buffer.concat([decipher.update(bytes.subarray(HEADER_BYTES)), decipher.final()]).toString('utf8');
  } catch (cause) {
    throw unavailable('it was changed after it was sealed; seal the secret again', { cause });
  }
}

/**
 * Reads a key of 32 bytes, spelled in base64 (also its URL alphabet) or in hexadecimal digits.
 * @throws {InvalidConfigurationError} which never repeats what was given
 */
export function parseSecretKey(text: string): Buffer {
  const trimmed = text.trim();
  if (/^[0-9a-fA-F]{64}$/.test(trimmed)) return Buffer.from(trimmed, 'hex');
  const key = /^[A-Za-z0-9+/_-]{43}=?$/.test(trimmed) ? Buffer.from(trimmed, 'base64') : undefined;
  if (key?.length === KEY_BYTES) return key;
  throw new InvalidConfigurationError(
    'LESSOR_SECRET_KEY must be 32 random bytes as base64 or as hexadecimal digits; `openssl rand -base64 32` makes them',
  );
}

/** Identifies a key without revealing anything of it. */
function keyIdOf(key: Buffer): Buffer {
  return createHmac('sha256', key)
    .update('id of a key for sealed secrets of Lessor')
    .digest()
    .subarray(0, KEY_ID_BYTES);
}

function additionalDataFor(keyId: Buffer): Buffer {
  return Buffer.concat([Buffer.from(PREFIX), keyId]);
}

function unavailable(detail: string, options?: ErrorOptions): EnvironmentFailedError {
  return new EnvironmentFailedError('secret_unavailable', `the sealed secret cannot be opened: ${detail}`, options);
}
