/* Pictures of each page: light, dark, and narrow.  The fifth argument is where they go. */
"use strict";
const path = require("path");
const { main, open, address, service } = require("./browser.js");

const directory = process.argv[6];
const KINDS = {
  light: { viewport: { width: 1180, height: 820 }, colorScheme: "light" },
  dark: { viewport: { width: 1180, height: 820 }, colorScheme: "dark" },
  narrow: { viewport: { width: 390, height: 820 }, colorScheme: "light" },
};

async function prepare(browser) {
  const page = await open(browser);
  for (const name of ["shop.catalogue", "shop.payment"]) {
    await page.goto(service + "/addjob.html?task=" + name);
    await page.getByLabel("Input", { exact: true }).fill('"Grace"');
    await page.getByRole("button", { name: "Add job" }).click();
  }
  await page.goto(service + "/jobs.html?state=error");
  const failed = await page.locator("tbody a.mono").first().getAttribute("href");
  await page.goto(service + "/jobs.html?state=cronjob");
  const schedule = await page.locator("tbody a.mono").first().getAttribute("href");
  await page.context().close();
  return { services: address + "++skin++RemoteTask/", jobs: service + "/jobs.html?size=10",
    addjob: service + "/addjob.html?task=shop.order",
    addcronjob: service + "/addcronjob.html?task=shop.newsletter",
    schedules: service + "/schedules.html", workers: service + "/workers.html",
    settings: service + "/settings.html", job: failed, schedule,
    editjob: schedule + "/editjob", confirm: service + "/jobs.html?state=error" };
}

main(async function (browser) {
  const pages = await prepare(browser);
  for (const [kind, options] of Object.entries(KINDS)) {
    const page = await open(browser, options);
    for (const [name, url] of Object.entries(pages)) {
      await page.goto(url);
      if (name === "confirm") {
        await page.locator("summary", { hasText: "All that match" }).click();
        await page.getByRole("button", { name: "Retry matching jobs" }).click();
      }
      const file = path.join(directory, `${name}-${kind}.png`);
      await page.screenshot({ path: file, animations: "disabled" });
      console.log(file);
    }
    await page.context().close();
  }
});
