'use strict';

const assert = require('node:assert/strict');
const {createPublicKey, verify} = require('node:crypto');
const {after, afterEach, before, beforeEach, test} = require('node:test');
const {LOCATION, makeClient, makeQueue, refused, startTarget, until} = require('./support.js');

let client, queue, target;

before(() => {
  client = makeClient();
});
after(() => client.close());
beforeEach(async () => {
  target = await startTarget();
  queue = await makeQueue(client);
});
afterEach(() => target.close());

const httpTask = (path, fields = {}) => ({httpRequest: {httpMethod: 'POST', url: target.url(path), ...fields}});
const create = async (task, more = {}) => (await client.createTask({parent: queue, task, ...more}))[0];
const list = async () => (await client.listTasks({parent: queue}))[0];
const isEmpty = async () => (await list()).length === 0;

test('a new queue has the defaults of the service', async () => {
  const [got] = await client.getQueue({name: queue});
  assert.equal(got.state, 'RUNNING');
  assert.equal(got.rateLimits.maxDispatchesPerSecond, 500);
  assert.equal(got.rateLimits.maxConcurrentDispatches, 1000);
  assert.equal(got.retryConfig.maxAttempts, 100);
  assert.equal(got.retryConfig.minBackoff.nanos, 100_000_000);
});

test('an update with a mask changes only what it names', async () => {
  const changed = {name: queue, rateLimits: {maxDispatchesPerSecond: 5}, retryConfig: {maxAttempts: 3}};
  const [got] = await client.updateQueue({queue: changed, updateMask: {paths: ['retry_config.max_attempts']}});
  assert.equal(got.retryConfig.maxAttempts, 3);
  assert.equal(got.rateLimits.maxDispatchesPerSecond, 500);
});

test('refusals have their codes and name the field', async () => {
  await refused(client.createQueue({parent: LOCATION, queue: {name: queue}}), 'ALREADY_EXISTS');
  await refused(client.createQueue({parent: LOCATION, queue: {name: 'q'}}), 'INVALID_ARGUMENT', /queue\.name/);
  await refused(client.getQueue({name: `${LOCATION}/queues/none`}), 'NOT_FOUND');
  await refused(client.getTask({name: `${queue}/tasks/none`}), 'NOT_FOUND');
  await refused(create({httpRequest: {url: 'ftp://x/'}}), 'INVALID_ARGUMENT', /task\.http_request\.url/);
  await refused(create({appEngineHttpRequest: {relativeUri: '/'}}), 'UNIMPLEMENTED', /app_engine_http_request/);
  const deadline = {...httpTask('/'), dispatchDeadline: {seconds: 14}};
  await refused(create(deadline), 'INVALID_ARGUMENT', /task\.dispatch_deadline/);
  const farAhead = {...httpTask('/'), scheduleTime: {seconds: Math.floor(Date.now() / 1000) + 31 * 86_400}};
  await refused(create(farAhead), 'INVALID_ARGUMENT', /task\.schedule_time/);
});

test('a deleted queue cannot be made again at once', async () => {
  await client.deleteQueue({name: queue});
  await refused(client.createQueue({parent: LOCATION, queue: {name: queue}}), 'FAILED_PRECONDITION');
});

test('a used task name already exists, also after the task', async () => {
  const task = {name: `${queue}/tasks/once`, ...httpTask('/')};
  await client.pauseQueue({name: queue});
  await create(task);
  await refused(create(task), 'ALREADY_EXISTS');
  await client.deleteTask({name: task.name});
  await refused(create(task), 'ALREADY_EXISTS');
  await refused(client.deleteTask({name: task.name}), 'NOT_FOUND');
});

test('the full view has the body, the basic view has not', async () => {
  await client.pauseQueue({name: queue});
  const created = await create(httpTask('/', {body: Buffer.from('{}')}), {responseView: 'FULL'});
  assert.equal(Buffer.from(created.httpRequest.body).toString(), '{}');
  const [basic] = await client.getTask({name: created.name});
  assert.equal(basic.view, 'BASIC');
  assert.equal(basic.httpRequest.body.length, 0);
});

test('tasks are listed in pages, and purged', async () => {
  await client.pauseQueue({name: queue});
  for (let n = 0; n < 5; n++) await create(httpTask('/'));
  const names = new Set();
  let pages = 0;
  let pageToken = '';
  do {
    const request = {parent: queue, pageSize: 2, pageToken};
    const [tasks, , response] = await client.listTasks(request, {autoPaginate: false});
    for (const task of tasks) names.add(task.name);
    pageToken = response.nextPageToken;
    pages += 1;
  } while (pageToken);
  assert.equal(pages, 3);
  assert.equal(names.size, 5);
  const bad = client.listTasks({parent: queue, pageToken: 'nonsense'}, {autoPaginate: false});
  await refused(bad, 'INVALID_ARGUMENT', /page_token/);
  await client.purgeQueue({name: queue});
  assert.ok(await isEmpty());
});

test('the target sees body, headers and those of Cloud Tasks', async () => {
  const headers = {'Content-Type': 'application/json', traceparent: '00-1-2-01'};
  const task = {name: `${queue}/tasks/t-1`, ...httpTask('/a?b=c', {headers, body: Buffer.from('{"n":1}')})};
  await create(task);
  await until(isEmpty, 'the delivery');
  const [received] = target.received;
  assert.deepEqual([received.method, received.url, received.body], ['POST', '/a?b=c', '{"n":1}']);
  assert.equal(received.headers['content-type'], 'application/json');
  assert.equal(received.headers.traceparent, '00-1-2-01');
  assert.equal(received.headers['user-agent'], 'Google-Cloud-Tasks');
  assert.equal(received.headers['x-cloudtasks-queuename'], queue.split('/').pop());
  assert.equal(received.headers['x-cloudtasks-taskname'], 't-1');
  assert.equal(received.headers['x-cloudtasks-taskretrycount'], '0');
  assert.match(received.headers['x-cloudtasks-tasketa'], /^\d+\.\d{6}$/);
});

test('a failed task is tried again and says what came before', async () => {
  target.statuses.push(500, 409);
  await create(httpTask('/'));
  await until(isEmpty, 'the third attempt');
  const counts = target.received.map(({headers}) =>
    ['retrycount', 'executioncount', 'previousresponse'].map(key => headers[`x-cloudtasks-task${key}`])
  );
  assert.deepEqual(counts, [
    ['0', '0', undefined],
    ['1', '0', '500'],
    ['2', '1', '409'],
  ]);
});

test('a paused queue waits, except for a task that is run', async () => {
  await client.pauseQueue({name: queue});
  await create(httpTask('/waits'));
  const forced = await create({...httpTask('/forced'), scheduleTime: {seconds: Math.floor(Date.now() / 1000) + 3600}});
  await client.runTask({name: forced.name});
  await until(async () => (await list()).length === 1, 'the forced task');
  assert.deepEqual(
    target.received.map(({url}) => url),
    ['/forced']
  );
  const [resumed] = await client.resumeQueue({name: queue});
  assert.equal(resumed.state, 'RUNNING');
  await until(isEmpty, 'the other task');
});

test('a scheduled task is not early', async () => {
  const at = Date.now() + 300;
  const scheduleTime = {seconds: Math.floor(at / 1000), nanos: (at % 1000) * 1_000_000};
  await create({...httpTask('/'), scheduleTime});
  await until(() => target.received.length === 1, 'the delivery');
  assert.ok(Date.now() >= at);
});

test('the OIDC token verifies with the published key', async () => {
  const serviceAccountEmail = 'invoker@test-project.iam.gserviceaccount.com';
  await create(httpTask('/signed', {oidcToken: {serviceAccountEmail}}));
  await until(isEmpty, 'the delivery');
  const [scheme, token] = target.received[0].headers.authorization.split(' ');
  assert.equal(scheme, 'Bearer');
  const [head, payload, signature] = token.split('.');
  const {kid, alg} = JSON.parse(Buffer.from(head, 'base64url'));
  assert.equal(alg, 'RS256');
  const {keys} = await (await fetch(process.env.CLOUD_TASKS_JWKS_URL)).json();
  const key = createPublicKey({key: keys.find(candidate => candidate.kid === kid), format: 'jwk'});
  const signed = Buffer.from(`${head}.${payload}`);
  assert.ok(verify('RSA-SHA256', signed, key, Buffer.from(signature, 'base64url')));
  const claims = JSON.parse(Buffer.from(payload, 'base64url'));
  assert.equal(claims.aud, target.url('/signed'));
  assert.equal(claims.email, serviceAccountEmail);
  assert.equal(claims.email_verified, true);
  assert.equal(claims.iss, 'https://accounts.google.com');
});
