import "./early_results.mjs";
import "./first_visit.mjs";
import "./session.mjs";
import "./workshop_page.mjs";
