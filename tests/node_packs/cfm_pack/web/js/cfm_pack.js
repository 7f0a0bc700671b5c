// Proves that a worker's browser script reaches a frontend that has not its node pack.
globalThis.cfmPackLoaded = true;
