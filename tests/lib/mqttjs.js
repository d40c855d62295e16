// SPDX-License-Identifier: Apache-2.0
// mqtt.js over TLS-PSK, driven line by line: argv[2] is {psk, identity, …options of mqtt.connect}; a line on stdin is
// {"id": N, "call": NAME, "args": […]} and calls that method of the client; each event and each answer is a line of JSON on stdout.
// {"base64": "…"} among the arguments stands for bytes.
'use strict'
const mqtt = require('mqtt')
const readline = require('readline')

const { psk, identity, ...options } = JSON.parse(process.argv[2])
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')
const text = (error) => (error ? String(error.message || error) : null)

const client = mqtt.connect({
  protocol: 'mqtts',
  host: '127.0.0.1',
  clientId: identity,
  pskCallback: () => ({ psk: Buffer.from(psk, 'hex'), identity }),
  checkServerIdentity: () => undefined, // who knows the key is the gateway; there is no certificate
  ...options
})

client.on('connect', (packet) => say({ event: 'connect', session: packet.sessionPresent, properties: packet.properties,
  tls: client.stream.getProtocol(), suite: client.stream.getCipher().standardName }))
client.on('message', (topic, payload, packet) => say({ event: 'message', topic, payload: payload.toString(), qos: packet.qos,
  retain: packet.retain, dup: packet.dup, properties: packet.properties || {} }))
client.on('error', (error) => say({ event: 'error', error: text(error), code: error.code }))
client.on('disconnect', (packet) => say({ event: 'disconnect', reason: packet.reasonCode }))
client.on('close', () => say({ event: 'close' }))

// Drop the connection without a word, as a cable that is pulled out does; mqtt.js comes back by itself.
client.drop = (done) => { client.stream.destroy(); done() }

// Answer each request where it asks for the answer (MQTT 5).
client.respond = (prefix, done) => {
  client.on('message', (topic, payload, packet) => {
    const { responseTopic, correlationData } = packet.properties || {}
    if (responseTopic) client.publish(responseTopic, prefix + payload, { properties: { correlationData } })
  })
  done()
}

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, call, args } = JSON.parse(line)
  const given = args.map((arg) => (arg.base64 === undefined ? arg : Buffer.from(arg.base64, 'base64')))
  let answered = false // mqtt.js calls back twice when a publish was refused
  client[call](...given, (error, result) => {
    if (!answered) say({ event: 'answer', id, error: text(error), result })
    answered = true
  })
}).on('close', () => process.exit())
