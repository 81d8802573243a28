"""What the pages run in the browser: renewing the live part, and sorting tables. Without it the pages stand still."""

from __future__ import annotations

from host.report.tables import SORTING

RENEW_MS = 2500

SCRIPT = f"""
"use strict";
const chosen={{column:null,down:false}};
function sorting(){{{SORTING}}}
sorting();
const region=document.querySelector("[data-live]"),renewed=document.getElementById("renewed");
const handles=()=>region?[...region.querySelectorAll("a,button,summary,[tabindex]")]:[];
document.addEventListener("click",event=>{{
const head=event.target.closest?.("table.sortable th");if(!head||!region?.contains(head))return;
chosen.column=[...head.parentNode.children].indexOf(head);chosen.down=head.getAttribute("aria-sort")==="descending"}});
async function renew(){{
if(document.hidden)return;
try{{
const answer=await fetch(region.dataset.live,{{headers:{{accept:"text/html"}}}});
if(!answer.ok)throw new Error(await answer.text());
const focus=handles().indexOf(document.activeElement),fresh=await answer.text();
region.innerHTML=fresh;sorting();
if(chosen.column!==null){{
const button=region.querySelector(`table.sortable th:nth-child(${{chosen.column+1}}) button`),down=chosen.down;
if(button){{button.click();if(down)button.click()}}}}
if(focus>=0)handles()[focus]?.focus({{preventScroll:true}});
if(renewed.dataset.lost){{delete renewed.dataset.lost;renewed.textContent="Live again."}}
}}catch(error){{renewed.dataset.lost="1";renewed.textContent="Not live: "+error.message+". Trying again."}}}}
if(region){{setInterval(renew,{RENEW_MS});document.addEventListener("visibilitychange",renew)}}
"""
