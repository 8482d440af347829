// An ordinary node-postgres application, on the database that KEYWAY_URL names. Leaves 0 when everything held.
'use strict';

const { Client, Pool } = require('pg');
const assert = require('node:assert/strict');

const url = process.env.KEYWAY_URL;
const ids = Array.from({ length: 40 }, (_, i) => 3000 + i);

async function connected(options = {}) {
  const client = new Client({ connectionString: url, ...options });
  client.on('error', () => {}); // a connection that we break ourselves
  await client.connect();
  return client;
}

async function fails(promise, code, what) {
  await promise.then(
    () => assert.fail(`${what}: no error`),
    (error) => assert.equal(error.code, code, `${what}: ${error.message}`),
  );
}

async function statements(client) {
  for (const id of ids) {
    const done = await client.query(
      'insert into accounts (id, name, balance, opened, data, raw, tags) values ($1, $2, $3, $4, $5, $6, $7)',
      [id, `n${id}`, id * 2, '2024-01-02', { id }, Buffer.from([0, 255]), ['a', `b${id}`]],
    );
    assert.equal(done.rowCount, 1);
    assert.equal(done.command, 'INSERT');
  }
  const { rows, fields } = await client.query('select id, name, data, raw, tags from accounts where id = $1', [3003]);
  assert.deepEqual(rows, [{ id: '3003', name: 'n3003', data: { id: 3003 }, raw: Buffer.from([0, 255]), tags: ['a', 'b3003'] }]);
  assert.deepEqual(fields.map((f) => [f.name, f.dataTypeID]), [['id', 20], ['name', 25], ['data', 3802], ['raw', 17], ['tags', 1009]]);
  const merged = await client.query('select id from accounts where id >= $1 and id < $2 order by balance desc, id limit $3 offset $4', [3000, 3040, 3, 1]);
  assert.deepEqual(merged.rows.map((r) => r.id), ['3038', '3037', '3036']);
  const count = await client.query('select count(*)::text as n from accounts where id = any($1)', [[3001, 3002, 9]]).catch(async (error) => {
    if (error.code !== '0A000') throw error;
    return client.query('select count(*) as n from accounts where id = any($1)', [[3001, 3002, 9]]);
  });
  assert.equal(count.rows[0].n, '2');
  const several = await client.query('select 1 as a; select name from accounts where id = 3001');
  assert.deepEqual(several.map((r) => r.rows), [[{ a: 1 }], [{ name: 'n3001' }]]);
}

async function prepared(client) {
  for (const id of ids) {
    const { rows } = await client.query({ name: 'by id', text: 'select name from accounts where id = $1', values: [id] });
    assert.equal(rows[0].name, `n${id}`);
  }
  const binary = await client.query({ text: 'select id, balance, name from accounts where id = $1', values: [3004], binary: true });
  assert.equal(binary.rows[0].balance, 6008);
  assert.equal(binary.rows[0].name.toString(), 'n3004');
  for (let line = 0; line < 20; line += 1) {
    await client.query({ name: 'line', text: 'insert into entries (account_id, line) values ($1, $2)', values: [3000, line] });
  }
}

async function pipelines(client) {
  // Queued without waiting: the driver writes the next when the last is done, in order.
  const results = await Promise.all(ids.map((id) => client.query('select name from accounts where id = $1', [id])));
  assert.deepEqual(results.map((r) => r.rows[0].name), ids.map((id) => `n${id}`));
  const mixed = await Promise.allSettled([
    client.query('select name from accounts where id = $1', [3001]),
    client.query('select 1 / (id - 3002) from accounts where id = $1', [3002]),
    client.query('select name from accounts where id = $1', [3003]),
  ]);
  assert.deepEqual(mixed.map((m) => m.status), ['fulfilled', 'rejected', 'fulfilled']);
  assert.equal(mixed[1].reason.code, '22012');
}

async function transactions(client) {
  await client.query('begin');
  await client.query('update accounts set balance = 1 where id = 3006');
  await client.query('savepoint a');
  await fails(client.query("insert into accounts (id, name) values (3006, 'twice')"), '23505', 'a duplicate');
  await fails(client.query('select 1'), '25P02', 'a failed transaction');
  await client.query('rollback to savepoint a');
  assert.equal((await client.query('select balance from accounts where id = 3006')).rows[0].balance, 1);
  await client.query('rollback');
  assert.equal((await client.query('select balance from accounts where id = 3006')).rows[0].balance, 6012);
}

async function cursors(client) {
  await client.query('begin');
  await client.query('declare c cursor for select line from entries where account_id = 3000 order by line');
  const seen = [];
  for (;;) {
    const { rows } = await client.query('fetch 7 from c');
    if (rows.length === 0) break;
    seen.push(...rows.map((r) => r.line));
  }
  await client.query('close c');
  await client.query('commit');
  assert.deepEqual(seen, Array.from({ length: 20 }, (_, i) => i));
  // A row limit on Execute, which suspends the portal.
  const limited = await client.query({ text: 'select line from entries where account_id = $1 order by line', values: [3000], rows: 6 });
  assert.equal(limited.rows.length, 20);
}

// COPY by the messages that pg-copy-streams would send, without that package.
function copyOut(client, sql) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    const nothing = () => {};
    client.query({
      submit(connection) { connection.query(sql); },
      handleCopyData(message) { chunks.push(message.chunk); },
      handleError: reject,
      handleReadyForQuery() { resolve(Buffer.concat(chunks).toString()); },
      handleRowDescription: nothing, handleDataRow: nothing, handleCommandComplete: nothing, handleCopyInResponse: nothing, handleEmptyQuery: nothing,
      handlePortalSuspended: nothing,
    });
  });
}

function copyIn(client, sql, text) {
  return new Promise((resolve, reject) => {
    const nothing = () => {};
    let failure;
    client.query({
      submit(connection) { connection.query(sql); },
      handleCopyInResponse(connection) {
        for (const line of text.split(/(?<=\n)/)) connection.sendCopyFromChunk(Buffer.from(line));
        connection.endCopyFrom();
      },
      handleError(error) { failure = error; reject(error); },
      handleReadyForQuery() { if (!failure) resolve(); },
      handleCopyData: nothing, handleRowDescription: nothing, handleDataRow: nothing, handleCommandComplete: nothing, handleEmptyQuery: nothing,
      handlePortalSuspended: nothing,
    });
  });
}

async function copies(client) {
  await copyIn(client, 'copy activity_node (id, what) from stdin', Array.from({ length: 200 }, (_, i) => `${i}\tline ${i}\n`).join(''));
  const out = await copyOut(client, 'copy (select id, what from activity_node where id < 2 order by id) to stdout');
  assert.equal(out, '0\tline 0\n1\tline 1\n');
  await fails(copyIn(client, 'copy activity_node (id, what) from stdin', 'x\ty\n'), '22P02', 'a bad row');
  await client.query('delete from activity_node');
  const lines = await copyOut(client, 'copy (select line from entries where account_id = 3000 order by line) to stdout');
  assert.equal(lines.split('\n').length, 21);
}

async function cancels(client) {
  let over = false;
  const sleeping = client.query('select pg_sleep(60) from accounts where id = 3000');
  sleeping.catch(() => {}).finally(() => { over = true; });
  const request = Buffer.alloc(16);
  request.writeInt32BE(16, 0);
  request.writeInt32BE(80877102, 4);
  request.writeInt32BE(client.processID, 8);
  request.writeInt32BE(client.secretKey, 12);
  // Until it is over: what comes before the query has no effect.
  while (!over) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    await new Promise((resolve, reject) => {
      const socket = require('node:net').connect(client.port, client.host, () => socket.write(request));
      socket.on('close', resolve);
      socket.on('error', reject);
      socket.resume();
    });
  }
  await fails(sleeping, '57014', 'a cancelled query');
  assert.equal((await client.query('select name from accounts where id = 3000')).rows[0].name, 'n3000');
}

async function pools() {
  const pool = new Pool({ connectionString: url, max: 10 });
  const names = await Promise.all(Array.from({ length: 200 }, (_, i) => pool.query('select name from accounts where id = $1', [3000 + (i % 40)])));
  assert.deepEqual(names.map((r) => r.rows[0].name), Array.from({ length: 200 }, (_, i) => `n${3000 + (i % 40)}`));
  await pool.end();
}

async function leavesInTheMiddle() {
  for (let turn = 0; turn < 8; turn += 1) {
    const client = await connected();
    await client.query('begin');
    await client.query('update accounts set balance = balance where id = 3008');
    client.query('select pg_sleep(0.5) from accounts where id = 3008').catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.connection.stream.destroy();
  }
  const client = await connected({ options: '-c lock_timeout=15s' });
  const done = await client.query('update accounts set balance = 1 where id = 3008');
  assert.equal(done.rowCount, 1);
  await client.end();
}

async function notifications() {
  const [a, b] = [await connected(), await connected()];
  const heard = new Promise((resolve) => a.once('notification', resolve));
  await a.query('listen node_news');
  await b.query("notify node_news, 'hello'");
  const message = await heard;
  assert.deepEqual([message.channel, message.payload], ['node_news', 'hello']);
  await a.end();
  await b.end();
}

async function clean(client) {
  for (const id of ids) {
    await client.query('delete from entries where account_id = $1', [id]);
    await client.query('delete from accounts where id = $1', [id]);
  }
}

async function main() {
  const client = await connected();
  await clean(client);
  for (const part of [statements, prepared, pipelines, transactions, cursors, copies, cancels]) await part(client);
  await pools();
  await leavesInTheMiddle();
  await notifications();
  await clean(client);
  await client.end();
  console.log('node-postgres: all held');
}

const late = setTimeout(() => {
  console.error('node-postgres: not done after 300 s');
  process.exit(1);
}, 300_000);
main().then(
  () => clearTimeout(late),
  (error) => {
    console.error(`node-postgres: ${error.stack}`);
    process.exit(1);
  },
);
