/* The ways of people through the pages, with script and without.  Each way that was
   gone to its end is a line "ok: ...". */
"use strict";
const fs = require("fs");
const { expect, main, open, address, service, PATIENCE } = require("./browser.js");

const content = (page) => page.locator("main").innerText();
const row = (page, title) => page.locator("table.jobs tbody tr", { hasText: title }).first();

/* Wait until a page says what it should: by itself where script runs, else by asking
   for it again. */
async function until(page, scripted, test, what) {
  const end = Date.now() + PATIENCE;
  while (!(await test())) {
    expect(Date.now() < end, what + ", in time; the page says:\n" + await content(page));
    if (scripted) {
      await page.waitForTimeout(100);
    } else {
      await page.reload();
    }
  }
}

async function message(page) {
  return (await page.locator(".messages").innerText()).trim();
}

async function add(page, task, title, input, fields) {
  await page.goto(service + "/addjob.html?task=" + task);
  if (input !== undefined) { await page.getByLabel("Input", { exact: true }).fill(input); }
  await page.getByLabel("Title", { exact: true }).fill(title);
  for (const [name, value] of Object.entries(fields || {})) {
    await page.selectOption("[name=" + name + "]", value);
  }
  await page.getByRole("button", { name: "Add job" }).click();
  expect(/Job \d+ was added\./.test(await message(page)), "the job is added");
}

const ways = {
  async "the start page leads to the jobs of a service"(page) {
    await page.goto(address + "++skin++RemoteTask/");
    await page.getByRole("link", { name: "shop" }).click();
    expect(page.url().startsWith(service + "/jobs.html"), "the list of jobs");
    expect((await page.title()).startsWith("Jobs"), "its title");
  },

  async "a job is added by the fields of its schema, wrong ones are explained"(page, word) {
    await page.goto(service + "/addjob.html");
    await page.getByLabel("Task", { exact: true }).selectOption("shop.order");
    if (page.url().indexOf("task=") < 0) {  // with script the choice sends itself
      await Promise.all([page.waitForURL(/task=shop.order/),
        page.getByRole("button", { name: "Choose" }).click().catch(() => null)]);
    }
    await page.getByLabel("Customer").fill("X");
    await page.getByLabel("Articles").fill("pencil\npaper");
    await page.getByLabel("Title", { exact: true }).fill("Order " + word);
    await page.getByRole("button", { name: "Add job" }).click();
    expect((await content(page)).includes("At least 2 are wanted."), "the reason");
    expect(await page.getByLabel("Articles").inputValue() === "pencil\npaper", "what was typed");
    await page.getByLabel("Customer").fill("Hedy " + word);
    await page.getByRole("button", { name: "Add job" }).click();
    expect(/was added/.test(await message(page)), "the message");
  },

  async "a job is watched while it runs, up to its end"(page, word, scripted) {
    // On a busy machine a job can be through before the page has looked: then another.
    let mine, seen = false;
    for (let number = 1; !seen; number++) {
      expect(number <= 5, "progress of one job in five");
      const title = "Catalogue " + word + " no. " + number;
      await add(page, "shop.catalogue", title);
      mine = row(page, title);
      await until(page, scripted, async () => {
        seen = await mine.locator("progress[value]").count() > 0;
        return seen || (await mine.innerText()).includes("completed");
      }, "progress");
    }
    const loads = await page.evaluate(() => performance.timeOrigin);
    await until(page, scripted, async () => (await mine.innerText()).includes("completed"),
      "completed");
    if (scripted) {
      expect(loads === await page.evaluate(() => performance.timeOrigin),
        "that all without loading the page again");
    }
  },

  async "its error is seen, and the job is tried again"(page, word, scripted) {
    await add(page, "shop.payment", "Payment " + word, '"<b>' + word + '</b>"');
    const mine = row(page, "Payment " + word);
    await until(page, scripted, async () => (await mine.innerText()).includes(
      "the bank does not answer: card of '<b>" + word + "</b>'"), "the error in the list");
    await mine.getByRole("link").first().click();
    await page.waitForURL(/\/\d+$/);
    const text = await content(page);
    expect(text.includes("ConnectionError"), "the kind of the error on the page of the job");
    await page.getByRole("button", { name: "Retry" }).click();
    await until(page, scripted, async () => (await content(page)).includes("paid"),
      "the result of the second attempt");
  },

  async "many are cancelled: those that are ticked, and all that match"(page, word, scripted) {
    for (const number of [1, 2, 3, 4, 5]) {
      await add(page, "shop.newsletter", "Many " + word + " " + number, "1", { start: "later" });
    }
    await page.goto(service + "/jobs.html?text=Many+" + word);
    const boxes = page.locator("tbody input[name=ids]");
    expect(await boxes.count() === 5, "five of them");
    await page.getByRole("button", { name: "Cancel selected" }).click();
    expect(await message(page) === "No jobs were selected.", "to be told to tick some");
    if (scripted) {
      await page.getByLabel("Select all jobs of this page").check();
      expect(await page.locator("tbody input[name=ids]:checked").count() === 5, "all ticked");
      await page.getByLabel("Select all jobs of this page").uncheck();
    }
    await boxes.nth(0).check();
    await boxes.nth(1).check();
    await page.getByRole("button", { name: "Cancel selected" }).click();
    expect(await message(page) === "Jobs were successfully cancelled.", "two are cancelled");
    await page.goto(service + "/jobs.html?state=start+later&text=Many+" + word);
    await page.locator("summary", { hasText: "All that match" }).click();
    await page.getByRole("button", { name: "Cancel matching jobs" }).click();
    expect((await content(page)).includes("3 jobs will be cancelled."), "the exact number");
    await page.getByRole("button", { name: "Cancel 3 jobs" }).click();
    expect(await message(page) === "3 jobs were cancelled.", "three are cancelled");
    await page.goto(service + "/jobs.html?state=cancelled&text=Many+" + word);
    expect(await page.locator("tbody input[name=ids]").count() === 5, "five cancelled");
  },

  async "a schedule is added, explained, edited, paused and resumed"(page, word) {
    await page.goto(service + "/addcronjob.html?task=shop.newsletter");
    await page.getByLabel("Title", { exact: true }).fill("Letter " + word);
    await page.getByLabel("Cron text").fill("0 25 * * *");
    await page.getByRole("button", { name: "What does this mean?" }).click();
    expect(await page.locator("#b-schedule-wrong").count() === 1, "the reason beside it");
    await page.getByLabel("Cron text").fill("0 7 * * mon");
    await page.getByRole("button", { name: "What does this mean?" }).click();
    expect((await content(page)).includes("It would run next at:"), "what it means");
    await page.getByRole("button", { name: "Add cron job" }).click();
    expect(/Cron job \d+ was added/.test(await message(page)), "it is added");
    await page.goto(service + "/schedules.html");
    const mine = page.locator("section, article, tr, li", { hasText: "Letter " + word }).last();
    await mine.getByRole("link", { name: "Edit" }).click();
    await page.waitForURL(/editjob/);
    await page.getByLabel("Cron text").fill("30 8 * * tue");
    await page.getByRole("button", { name: "Save" }).click();
    await page.goto(service + "/schedules.html");
    expect((await mine.innerText()).includes("Tuesday"), "its new day");
    await mine.getByRole("button", { name: "Pause" }).click();
    expect((await content(page)).includes("Resume"), "that it can be resumed");
    await mine.getByRole("button", { name: "Resume" }).click();
  },

  async "the work is stopped and started again"(page, word, scripted) {
    await page.goto(service + "/jobs.html");
    await page.getByRole("button", { name: "Stop Processing" }).click();
    await until(page, scripted, async () => await page.getByRole(
      "button", { name: "Start Processing" }).count() === 1, "that it can be started");
    await add(page, "shop.newsletter", "Waiting " + word, "7");
    const mine = row(page, "Waiting " + word);
    expect((await mine.innerText()).includes("queued"), "that it waits");
    await page.getByRole("button", { name: "Start Processing" }).click();
    await until(page, scripted, async () => (await mine.innerText()).includes("completed"),
      "that it is done");
  },
};

async function goAll(browser, scripted) {
  const word = scripted ? "moving" : "still";
  for (const [name, way] of Object.entries(ways)) {
    const page = await open(browser, { javaScriptEnabled: scripted });
    await way(page, word, scripted);
    expect(page.troubles.length === 0, "no trouble in the page: " + page.troubles.join("; "));
    await page.context().close();
    console.log("ok: " + name + (scripted ? "" : ", without script"));
  }
}

async function refreshRests(browser) {
  const page = await open(browser);
  let asked = 0;
  page.on("request", (request) => { asked += request.headers()["x-remotetask-live"] ? 1 : 0; });
  await page.goto(service + "/jobs.html");
  await until(page, true, async () => asked > 0, "that the page asks");
  await page.evaluate(function () {
    Object.defineProperty(document, "hidden", { get: () => true, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.waitForTimeout(500);
  const before = asked;
  await page.waitForTimeout(4000);
  expect(asked === before, "a hidden tab does not ask");
  await page.evaluate(function () {
    delete document.hidden;
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await until(page, true, async () => asked > before, "that it asks again when it is seen");
  await page.context().close();
  console.log("ok: a page rests while nobody sees it");
}

async function keyboard(browser) {
  const page = await open(browser);
  await page.goto(service + "/jobs.html");
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.activeElement.textContent) === "Skip to the content",
    "the first stop is the way to the content");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => document.querySelector("main").contains(
    document.activeElement)), "the next stop is in the content");
  await page.context().close();
  console.log("ok: the content is two keys away");
}

async function accessible(browser) {
  const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
  const page = await open(browser);
  await page.goto(service + "/jobs.html");
  const job = await row(page, "Payment moving").getByRole("link").first().getAttribute("href");
  await page.context().close();
  const pages = { "all services": address + "++skin++RemoteTask/", jobs: service + "/jobs.html",
    "jobs of a state": service + "/jobs.html?state=error&text=x",
    "add job": service + "/addjob.html?task=shop.order",
    "add cron job": service + "/addcronjob.html?task=shop.order",
    schedules: service + "/schedules.html", workers: service + "/workers.html",
    settings: service + "/settings.html", job };
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 390, 320]) {   // 320 is 1280 at 400 %
      const page = await open(browser, {
        colorScheme, viewport: { width, height: 800 }, bypassCSP: true });
      for (const [name, url] of Object.entries(pages)) {
        await page.goto(url);
        await page.evaluate(() => document.querySelectorAll("details:not(.menu)").forEach(
          (element) => { element.open = true; }));
        await page.addScriptTag({ content: axe });
        const found = await page.evaluate(() => axe.run());
        expect(found.violations.length === 0, `${name}, ${colorScheme}, ${width}: ` +
          found.violations.map((each) => each.id + " " + each.nodes[0].html).join("; "));
        const wider = await page.evaluate(() => document.documentElement.scrollWidth -
          document.documentElement.clientWidth);
        expect(wider <= 0, `${name}, ${width}: nothing stands out, but ${wider} pixels do`);
      }
      await page.context().close();
    }
    console.log("ok: axe finds nothing, " + colorScheme);
  }
}

main(async function (browser) {
  await goAll(browser, true);
  await goAll(browser, false);
  await refreshRests(browser);
  await keyboard(browser);
  await accessible(browser);
});
