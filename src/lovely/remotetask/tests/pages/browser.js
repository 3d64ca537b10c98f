/* A Chromium of our own, and what the scripts beside this file share.  Arguments:
   the address of the application, login, password, path of Chromium. */
"use strict";
const { chromium } = require("playwright-core");

const [address, login, password, executablePath] = process.argv.slice(2);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const PATIENCE = 60000;
const LIMIT = 240000;  // for all of it: not each question to Chromium has a bound
const HUNG = 75;       // the exit code then
const service = address + "++skin++RemoteTask/++etc++site/default/shop";

function expect(truth, what) {
  if (!truth) { throw new Error("expected: " + what); }
}

async function open(browser, options) {
  const context = await browser.newContext({
    httpCredentials: { username: login, password: password },
    viewport: { width: 1280, height: 860 }, locale: "en-US", timezoneId: "Europe/Berlin",
    ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.troubles = [];
  page.on("pageerror", (error) => page.troubles.push(error.message));
  page.on("console", function (message) {
    if (message.type() === "error") { page.troubles.push(message.text()); }
  });
  return page;
}

function main(work) {
  setTimeout(function () {
    console.error("Chromium has hung");
    process.exit(HUNG);
  }, LIMIT).unref();
  (async function () {
    const browser = await chromium.launch({ executablePath, args: FLAGS });
    try {
      await work(browser);
    } finally {
      await browser.close();
    }
  })().catch(function (error) {
    console.error(error.stack || String(error));
    process.exit(1);
  });
}

module.exports = { expect, main, open, address, service, PATIENCE };
