'use strict';

// What the suite needs around the server: a client pointed at it, a target that records, bounded waiting.

const assert = require('node:assert/strict');
const http = require('node:http');
const {randomUUID} = require('node:crypto');
const {setTimeout: sleep} = require('node:timers/promises');
const {CloudTasksClient} = require('@google-cloud/tasks');
const {grpc} = require('google-gax');

const LOCATION = 'projects/test-project/locations/us-central1';
const WAIT_MS = 20_000;

/** The real client, pointed at the server whose address is in CLOUD_TASKS_ADDRESS. */
function makeClient() {
  const [servicePath, port] = process.env.CLOUD_TASKS_ADDRESS.split(':');
  return new CloudTasksClient({
    servicePath,
    port: Number(port),
    sslCreds: grpc.credentials.createInsecure(),
    projectId: 'test-project',
  });
}

/** Make a queue that nobody else has, and return its name. */
async function makeQueue(client, settings = {}) {
  const name = `${LOCATION}/queues/node-${randomUUID()}`;
  const [queue] = await client.createQueue({parent: LOCATION, queue: {name, ...settings}});
  return queue.name;
}

/** Wait until the condition holds; fail if it does not within the bound. */
async function until(condition, what) {
  const giveUp = Date.now() + WAIT_MS;
  while (!(await condition())) {
    assert.ok(Date.now() < giveUp, `waited in vain: ${what}`);
    await sleep(5);
  }
}

/** Whether the promise is refused with that gRPC code; anything else fails. */
function refused(promise, code, message = /./) {
  return assert.rejects(promise, error => {
    assert.equal(error.code, grpc.status[code], String(error));
    assert.match(error.message, message);
    return true;
  });
}

/** An HTTP server that records what it is sent; it answers `statuses` in turn, then 200. */
async function startTarget() {
  const target = {received: [], statuses: []};
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on('data', part => parts.push(part));
    request.on('end', () => {
      const {method, url, headers} = request;
      target.received.push({method, url, headers, body: Buffer.concat(parts).toString()});
      response.writeHead(target.statuses.shift() ?? 200, {Connection: 'close'}).end();
    });
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  target.url = path => `http://127.0.0.1:${server.address().port}${path}`;
  target.close = () => new Promise(resolve => server.close(resolve));
  return target;
}

module.exports = {LOCATION, makeClient, makeQueue, refused, startTarget, until};
